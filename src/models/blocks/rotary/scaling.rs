//! Scaling of rotary positions for texts longer than the texts in training. This module computes the kinds of scaling
//! in transformers' `modeling_rope_utils.py`, and NTK as in the code of GTE.
//!
//! Frequencies are rounded to f32 where transformers rounds them.

use std::f64::consts::PI;

use crate::config::JsonFile;
use crate::error::Error;

/// The method by which wavelengths are scaled.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) enum Scaling {
    None,
    /// All wavelengths are multiplied by this factor.
    Linear(f64),
    /// Wavelengths are scaled whatever the length of the text. Longer wavelengths are scaled more:
    /// <https://kexue.fm/archives/9706>.
    Ntk {
        factor: f64,
        mixed_b: Option<f64>,
    },
    /// Wavelengths are scaled according to the length of the text, but only for texts longer than `trained` tokens.
    Dynamic {
        factor: f64,
        trained: usize,
    },
    /// The scaling of Llama 3.1. Wavelengths above `long` are multiplied by `factor`, and those below `short` are not
    /// scaled. Wavelengths in between are multiplied by an interpolated factor.
    Llama3 {
        factor: f64,
        short: f64,
        long: f64,
    },
    /// YaRN (Peng et al. 2023, <https://arxiv.org/abs/2309.00071>). Pairs before `low` are not scaled, pairs from
    /// `high` on are scaled by `factor`, and pairs in between by an interpolated factor. Cosines and sines are
    /// multiplied by `magnitude`.
    Yarn {
        factor: f64,
        low: f64,
        high: f64,
        magnitude: f64,
    },
    /// `LongRoPE` (Ding et al. 2024, <https://arxiv.org/abs/2402.13753>). Each pair has its own factor. Texts longer
    /// than `trained` tokens use the factors in `long`, and other texts use those in `short`.
    Long {
        short: Vec<f64>,
        long: Vec<f64>,
        trained: usize,
        magnitude: f64,
    },
}

impl Scaling {
    /// Reads `rope_parameters` for heads with `dims` rotated values and the base `theta`.
    pub fn read(
        config: &JsonFile,
        parameters: &JsonFile,
        dims: usize,
        theta: f64,
    ) -> Result<Self, Error> {
        let named = if parameters.has("rope_type") { "rope_type" } else { "type" };
        let kind = parameters.str(named)?.unwrap_or("default");
        if kind == "default" {
            return Ok(Scaling::None);
        }
        let factor = || read_factor(parameters)?.ok_or_else(|| wrong_factor(parameters));
        Ok(match kind {
            "linear" => Scaling::Linear(factor()?),
            "ntk" if parameters.f64("factor")? == Some(1.0) => Scaling::None,
            "ntk" => Scaling::Ntk { factor: factor()?, mixed_b: parameters.f64("mixed_b")? },
            "dynamic" => Scaling::Dynamic {
                factor: factor()?,
                trained: config.required_size("max_position_embeddings")?,
            },
            "llama3" => llama3(config, parameters, factor()?)?,
            "yarn" => yarn(config, parameters, dims, theta)?,
            "longrope" => long_rope(config, parameters, dims)?,
            _ => {
                let supported =
                    "supported: default, linear, ntk, dynamic, llama3, yarn and longrope";
                return Err(parameters.unsupported(named, supported));
            }
        })
    }

    /// Returns a number that identifies the set of frequencies that a text of this length uses. The number is 0 unless
    /// the frequencies depend on the length.
    pub fn set(&self, tokens: usize) -> usize {
        match self {
            Scaling::Dynamic { trained, .. } if tokens > *trained => tokens,
            Scaling::Long { trained, .. } => usize::from(tokens > *trained),
            _ => 0,
        }
    }

    /// Returns the factor by which cosines and sines are multiplied.
    pub fn magnitude(&self) -> f64 {
        match self {
            Scaling::Yarn { magnitude, .. } | Scaling::Long { magnitude, .. } => *magnitude,
            _ => 1.0,
        }
    }

    /// Returns the angle per position of each pair. `set` is a set of frequencies, as [`Scaling::set`] returns it.
    pub fn frequencies(&self, dims: usize, theta: f64, set: usize) -> Vec<f64> {
        let width = dims as f64;
        let theta = match self {
            Scaling::Ntk { factor, mixed_b: None } => theta * factor,
            Scaling::Dynamic { factor, trained } if set > *trained => {
                let stretch = factor * set as f64 / *trained as f64 - (factor - 1.0);
                theta * stretch.powf(width / (width - 2.0))
            }
            _ => theta,
        };
        let pair = |p: usize| {
            let exponent = (2 * p) as f32 / dims as f32;
            let frequency = 1.0 / theta.powf(f64::from(exponent)) as f32;
            let divisor = match self {
                Scaling::Linear(factor) => *factor,
                Scaling::Ntk { factor, mixed_b: None } => factor.powf(2.0 / width),
                Scaling::Ntk { factor, mixed_b: Some(b) } => {
                    let a = factor.ln() / (width / 2.0).powf(*b);
                    (a * (p as f64 + 1.0).powf(*b)).exp()
                }
                Scaling::Llama3 { factor, short, long } => {
                    let wave = 2.0 * PI / f64::from(frequency);
                    // `unscaled` is 0 at the wavelength `long`, which is scaled by the whole `factor`. It is 1 at the
                    // wavelength `short`, which is not scaled.
                    let unscaled = (1.0 / wave - 1.0 / long) / (1.0 / short - 1.0 / long);
                    blend(*factor, unscaled)
                }
                Scaling::Yarn { factor, low, high, .. } => {
                    blend(*factor, 1.0 - (p as f64 - low) / (high - low))
                }
                Scaling::Long { short, .. } if set == 0 => short[p],
                Scaling::Long { long, .. } => long[p],
                Scaling::None | Scaling::Dynamic { .. } => 1.0,
            };
            f64::from(frequency / divisor as f32)
        };
        (0..dims / 2).map(pair).collect()
    }
}

/// Returns the number by which scaling divides a frequency. `unscaled`, clamped to 0 to 1, is the share of the
/// frequency that does not change; the rest is divided by `factor`.
fn blend(factor: f64, unscaled: f64) -> f64 {
    let unscaled = unscaled.clamp(0.0, 1.0);
    1.0 / ((1.0 - unscaled) / factor + unscaled)
}

fn wrong_factor(parameters: &JsonFile) -> Error {
    parameters.error("factor", "is missing or below 1; expected: a number of at least 1")
}

fn read_factor(parameters: &JsonFile) -> Result<Option<f64>, Error> {
    match parameters.f64("factor")? {
        Some(factor) if !(factor.is_finite() && factor >= 1.0) => Err(wrong_factor(parameters)),
        factor => Ok(factor),
    }
}

/// Reads a number above zero.
fn positive(file: &JsonFile, field: &str) -> Result<Option<f64>, Error> {
    match file.f64(field)? {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(file.error(field, format!("is {value}; expected: a number above 0")))
        }
        value => Ok(value),
    }
}

fn required(file: &JsonFile, field: &str) -> Result<f64, Error> {
    positive(file, field)?.ok_or_else(|| file.error(field, "is missing; expected: a number"))
}

/// Returns the number of positions in the original training. The config's own field takes precedence over the field in
/// `parameters`.
fn original_positions(config: &JsonFile, parameters: &JsonFile) -> Result<f64, Error> {
    let field = "original_max_position_embeddings";
    for file in [config, parameters] {
        if file.has(field) {
            return Ok(file.required_size(field)? as f64);
        }
    }
    Ok(config.required_size("max_position_embeddings")? as f64)
}

/// Reads `factor`. If `factor` is missing, returns the number of all positions divided by the number of original
/// positions.
fn factor_of_positions(
    config: &JsonFile,
    parameters: &JsonFile,
    original: f64,
) -> Result<f64, Error> {
    match read_factor(parameters)? {
        Some(factor) => Ok(factor),
        None => Ok(config.required_size("max_position_embeddings")? as f64 / original),
    }
}

fn llama3(config: &JsonFile, parameters: &JsonFile, factor: f64) -> Result<Scaling, Error> {
    let low = required(parameters, "low_freq_factor")?;
    let high = required(parameters, "high_freq_factor")?;
    if low >= high {
        let problem =
            format!("is {low}; expected: a number below `high_freq_factor`, which is {high}");
        return Err(parameters.error("low_freq_factor", problem));
    }
    let original = original_positions(config, parameters)?;
    Ok(Scaling::Llama3 { factor, short: original / high, long: original / low })
}

fn yarn(
    config: &JsonFile,
    parameters: &JsonFile,
    dims: usize,
    theta: f64,
) -> Result<Scaling, Error> {
    let original = original_positions(config, parameters)?;
    let factor = factor_of_positions(config, parameters, original)?;
    let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let magnitude = match positive(parameters, "attention_factor")? {
        Some(magnitude) => magnitude,
        None => match (parameters.f64("mscale")?, parameters.f64("mscale_all_dim")?) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
            _ => scale(1.0),
        },
    };
    if theta == 1.0 {
        return Err(parameters.unsupported(
            "rope_theta",
            "if the scaling is yarn, only a number above 1 is supported",
        ));
    }
    // `place` returns the index of the pair of head values that rotates `turns` times over the positions of the
    // original training.
    let place =
        |turns: f64| dims as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let mut low = place(positive(parameters, "beta_fast")?.unwrap_or(32.0));
    let mut high = place(positive(parameters, "beta_slow")?.unwrap_or(1.0));
    if parameters.bool("truncate")?.unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    Ok(Scaling::Yarn { factor, low, high, magnitude })
}

fn long_rope(config: &JsonFile, parameters: &JsonFile, dims: usize) -> Result<Scaling, Error> {
    let original = original_positions(config, parameters)?;
    let factor = factor_of_positions(config, parameters, original)?;
    let magnitude = match positive(parameters, "attention_factor")? {
        Some(magnitude) => magnitude,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    let divisors = |field: &str| -> Result<Vec<f64>, Error> {
        let list = parameters.raw(field).and_then(|value| value.as_array());
        let divisors: Option<Vec<f64>> = list.and_then(|list| {
            list.iter().map(|v| v.as_f64().filter(|v| v.is_finite() && *v > 0.0)).collect()
        });
        divisors.filter(|divisors| divisors.len() == dims / 2).ok_or_else(|| {
            let problem = format!(
                "must be a list of {} numbers above 0, one per pair of rotated values",
                dims / 2
            );
            parameters.error(field, problem)
        })
    };
    let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
    Ok(Scaling::Long { short, long, trained: original as usize, magnitude })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::models::blocks::rotary::Rotary;

    fn read(config: &Value) -> Result<Rotary, Error> {
        let Value::Object(map) = config else { panic!("{config}") };
        Rotary::read(&JsonFile::new("config.json", map.clone()), 16, 10000.0, None)
    }

    /// Expects values that were computed with transformers 5.23, in f32, for heads of 16 values.
    fn check(config: Value, tokens: usize, expected: [f64; 8], magnitude: f64) {
        let Rotary { theta, dims, scaling, .. } = read(&config).unwrap();
        let got = scaling.frequencies(dims, theta, scaling.set(tokens));
        assert!((scaling.magnitude() - magnitude).abs() < 1e-12, "{config}: {scaling:?}");
        assert_eq!(got.len(), 8);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got / expected - 1.0).abs() < 1e-6, "{config}: {got}, should be {expected}");
        }
    }

    const PLAIN: [f64; 8] =
        [1.0, 0.31622776, 0.1, 0.031622779, 0.0099999998, 0.0031622779, 0.001, 0.00031622779];

    #[test]
    fn theta_is_read_from_any_of_its_places() {
        for config in [
            json!({}),
            json!({"rope_theta": 1e4}),
            json!({"rope_theta": 1e4, "rope_scaling": null}),
            json!({"rope_theta": 7.0, "rope_parameters": {"rope_theta": 1e4}}),
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
            json!({"rope_scaling": {}, "rope_parameters": {"rope_type": "default"}}),
        ] {
            check(config, 9, PLAIN, 1.0);
        }
    }

    #[test]
    fn linear_and_dynamic_scaling_match_transformers() {
        let linear = PLAIN.map(|frequency| frequency / 4.0);
        check(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}), 9, linear, 1.0);
        let dynamic = json!({"max_position_embeddings": 64, "rope_theta": 1e4,
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}});
        check(dynamic.clone(), 64, PLAIN, 1.0);
        let longer = [
            1.0,
            0.28394514,
            0.080624841,
            0.02289303,
            0.0065003652,
            0.001845747,
            0.00052409089,
            0.00014881307,
        ];
        check(dynamic, 100, longer, 1.0);
    }

    #[test]
    fn llama3_scaling_matches_transformers() {
        let llama3 = json!({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 1024}});
        let expected = [
            1.0,
            0.19392276,
            0.037606031,
            0.0013125695,
            0.00017677668,
            3.4281024e-05,
            6.6478697e-06,
            1.2891732e-06,
        ];
        check(llama3, 9, expected, 1.0);
    }

    #[test]
    fn yarn_scaling_matches_transformers() {
        let mut parameters = json!({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
            "original_max_position_embeddings": 1024});
        let expected = [
            1.0,
            0.31622776,
            0.081250004,
            0.019764237,
            0.004375,
            0.00079056947,
            0.00025000001,
            7.9056947e-05,
        ];
        check(json!({"rope_parameters": parameters}), 9, expected, 1.138629436111989);
        let more = json!({"mscale": 1.0, "mscale_all_dim": 0.5, "truncate": false,
            "beta_fast": 16, "beta_slow": 2});
        parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let expected = [
            1.0,
            0.31622776,
            0.1,
            0.018701805,
            0.0024999999,
            0.00079056947,
            0.00025000001,
            7.9056947e-05,
        ];
        check(json!({"rope_parameters": parameters}), 9, expected, 1.0648216253695715);
    }

    #[test]
    fn longrope_has_separate_frequencies_for_short_and_long_texts() {
        let config = json!({"max_position_embeddings": 4096, "rope_theta": 1e4,
            "rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 1024,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
            "long_factor": [2, 3, 4, 5, 6, 7, 8, 9]}});
        let short = [
            1.0,
            0.28747976,
            0.083333336,
            0.024325214,
            0.0071428572,
            0.0021081853,
            0.00062499999,
            0.00018601633,
        ];
        let long = [
            0.5,
            0.10540925,
            0.025,
            0.0063245557,
            0.0016666667,
            0.00045175396,
            0.00012500001,
            3.5136418e-05,
        ];
        check(config.clone(), 1024, short, 1.0954451150103321);
        check(config, 1025, long, 1.0954451150103321);
    }

    #[test]
    fn dynamic_scaling_depends_on_the_length_of_the_text() {
        let scaling = Scaling::Dynamic { factor: 2.0, trained: 16 };
        let plain = Scaling::None.frequencies(8, 1000.0, 0);
        assert_eq!(scaling.frequencies(8, 1000.0, scaling.set(16)), plain);
        let longer = scaling.frequencies(8, 1000.0, scaling.set(32));
        assert_eq!(longer[0], plain[0]);
        // The scaled base is 1000 · (2 · 32 / 16 − 1)^(8 / 6). The frequency of the last pair is the scaled base to the
        // power of −0.75.
        let expected = (1000.0 * 3f64.powf(8.0 / 6.0)).powf(-0.75);
        assert!((longer[3] - expected).abs() < 1e-9, "{} {expected}", longer[3]);
    }

    #[test]
    fn ntk_scaling_lengthens_every_wavelength() {
        let of = |scaling: Scaling| scaling.frequencies(8, 20000.0, 0)[3];
        let fixed = of(Scaling::Ntk { factor: 8.0, mixed_b: None });
        let expected = 160_000f64.powf(-0.75) / 8f64.powf(0.25);
        assert!((fixed - expected).abs() < 1e-8, "{fixed} {expected}");
        // The last pair is scaled by the full factor.
        let ratio = of(Scaling::None) / of(Scaling::Ntk { factor: 8.0, mixed_b: Some(0.5) });
        assert!((ratio - 8.0).abs() < 1e-5, "{ratio}");
    }

    #[test]
    fn unsupported_scaling_is_refused_by_field() {
        for (config, field) in [
            (json!({"rope_scaling": {"type": "mrope"}}), "rope_scaling.type"),
            (
                json!({"rope_parameters": {"rope_type": "proportional"}}),
                "rope_parameters.rope_type",
            ),
            (json!({"rope_parameters": {"full_attention": {}}}), "rope_parameters.full_attention"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"rope_theta": -1}), "rope_theta"),
            (json!({"rope_theta": "ten"}), "rope_theta"),
            (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
            (
                json!({"rope_scaling": {"type": "longrope", "factor": 1,
                "original_max_position_embeddings": 9, "short_factor": [1]}}),
                "short_factor",
            ),
        ] {
            let error = read(&config).unwrap_err().to_string();
            assert!(error.contains("config.json") && error.contains(field), "{config}: {error}");
        }
    }
}
