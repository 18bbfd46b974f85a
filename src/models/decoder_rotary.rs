//! Rotary positions as config files state them: `rope_parameters` (transformers 5), or `rope_theta` and
//! `rope_scaling` (before). The formulas are those of transformers' `modeling_rope_utils.py`.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use serde_json::Map;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::gpu::graph::TensorId;
use crate::kernels::Builder;
use crate::kernels::rope;
use crate::models::layers::count;

/// By which angles heads are turned.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    /// Pairs of values of a head.
    pub pairs: usize,
    frequencies: Frequencies,
    /// What cosines and sines are multiplied by.
    factor: f64,
}

/// An angle a position for each pair, which may depend on how long a text is.
#[derive(Debug, Clone)]
enum Frequencies {
    Fixed(Vec<f64>),
    /// Of texts longer than `positions`, each length has its own.
    Dynamic {
        theta: f64,
        factor: f64,
        positions: usize,
    },
    /// `long` for texts longer than `positions`.
    Long {
        short: Vec<f64>,
        long: Vec<f64>,
        positions: usize,
    },
}

/// The parameters of all layers; empty where the config has none.
///
/// # Errors
/// [`Error::Unsupported`] where they differ by kind of layer.
pub(super) fn parameters(config: &JsonFile) -> Result<JsonFile, Error> {
    let scaling = config.object("rope_scaling")?.filter(|object| !object.map.is_empty());
    let parameters = match scaling {
        Some(scaling) => Some(scaling),
        None => config.object("rope_parameters")?,
    };
    let parameters = parameters.unwrap_or_else(|| JsonFile::new(&config.name, Map::new()));
    if parameters.map.values().any(serde_json::Value::is_object) {
        return Err(config.unsupported("rope_parameters", "one set for all layers is"));
    }
    Ok(parameters)
}

impl Rotary {
    /// The angles of heads of `head` values, all of which are turned. `theta` is the base where neither
    /// `parameters` nor the config names one.
    pub fn read(
        config: &JsonFile,
        parameters: &JsonFile,
        head: usize,
        theta: f64,
    ) -> Result<Self, Error> {
        if !head.is_multiple_of(2) {
            let problem = format!("makes heads of {head} values; an even number is expected");
            return Err(config.error("head_dim", problem));
        }
        for file in [parameters, config] {
            if file.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(file.unsupported("partial_rotary_factor", "1 is"));
            }
        }
        let theta = match number(parameters, "rope_theta")? {
            Some(theta) => theta,
            None => number(config, "rope_theta")?.unwrap_or(theta),
        };
        let pairs = head / 2;
        let plain: Vec<f64> =
            (0..pairs).map(|p| theta.powf(-((2 * p) as f64) / head as f64)).collect();
        let field = if parameters.has("rope_type") { "rope_type" } else { "type" };
        let (frequencies, factor) = match parameters.str(field)?.unwrap_or("default") {
            "default" => (Frequencies::Fixed(plain), 1.0),
            "linear" => {
                let factor = required(parameters, "factor")?;
                (Frequencies::Fixed(plain.iter().map(|f| f / factor).collect()), 1.0)
            }
            "dynamic" => {
                if head < 4 {
                    return Err(parameters.unsupported(field, "heads of 4 values and more are"));
                }
                let factor = required(parameters, "factor")?;
                let positions = count(config, "max_position_embeddings", 1 << 30)?;
                (Frequencies::Dynamic { theta, factor, positions }, 1.0)
            }
            "llama3" => (Frequencies::Fixed(llama3(config, parameters, &plain)?), 1.0),
            "yarn" => {
                let (frequencies, factor) = yarn(config, parameters, &plain, theta)?;
                (Frequencies::Fixed(frequencies), factor)
            }
            "longrope" => long_rope(config, parameters, &plain)?,
            _ => {
                let supported = "default, linear, dynamic, llama3, yarn and longrope are";
                return Err(parameters.unsupported(field, supported));
            }
        };
        Ok(Rotary { pairs, frequencies, factor })
    }

    /// The table of angles of a batch and the row of it for each token. A text's angles depend on its
    /// own length alone.
    pub fn tensors(&self, builder: &mut Builder, batch: &PackedBatch) -> [TensorId; 2] {
        let mut longest: BTreeMap<usize, usize> = BTreeMap::new();
        for [_, tokens, _] in &batch.texts {
            let most = longest.entry(self.set(*tokens as usize)).or_default();
            *most = (*most).max(*tokens as usize);
        }
        let mut angles = Vec::new();
        let mut first_rows = BTreeMap::new();
        let mut rows_so_far = 0;
        for (set, positions) in longest {
            angles.extend(rope::angles(&self.frequencies(set), self.factor, positions));
            first_rows.insert(set, rows_so_far as u32);
            rows_so_far += positions;
        }
        let mut rows = Vec::with_capacity(batch.ids.len());
        for [_, tokens, _] in &batch.texts {
            let first = first_rows.get(&self.set(*tokens as usize)).copied().unwrap_or(0);
            rows.extend(first..first + tokens);
        }
        [builder.input("angles", &angles), builder.input("rows of angles", &rows)]
    }

    /// Which frequencies a text of so many tokens has: 0, or where they depend on its length another.
    fn set(&self, tokens: usize) -> usize {
        match self.frequencies {
            Frequencies::Dynamic { positions, .. } if tokens > positions => tokens,
            Frequencies::Long { positions, .. } => usize::from(tokens > positions),
            _ => 0,
        }
    }

    fn frequencies(&self, set: usize) -> Vec<f64> {
        match &self.frequencies {
            Frequencies::Fixed(frequencies) => frequencies.clone(),
            Frequencies::Dynamic { theta, factor, positions } => {
                let dims = (2 * self.pairs) as f64;
                let stretch = (set.max(*positions) as f64 / *positions as f64) * factor;
                let theta = theta * (stretch - (factor - 1.0)).powf(dims / (dims - 2.0));
                (0..self.pairs).map(|p| theta.powf(-((2 * p) as f64) / dims)).collect()
            }
            Frequencies::Long { short, long, .. } => {
                if set == 0 {
                    short.clone()
                } else {
                    long.clone()
                }
            }
        }
    }
}

/// A number above zero.
fn number(file: &JsonFile, field: &str) -> Result<Option<f64>, Error> {
    match file.f64(field)? {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(file.error(field, format!("is {value}; a number above 0 is expected")))
        }
        value => Ok(value),
    }
}

fn required(file: &JsonFile, field: &str) -> Result<f64, Error> {
    number(file, field)?.ok_or_else(|| file.error(field, "is missing; a number is expected"))
}

/// How many positions the model was first trained on: the config's own field counts first.
fn original_positions(config: &JsonFile, parameters: &JsonFile) -> Result<f64, Error> {
    let field = "original_max_position_embeddings";
    for file in [config, parameters] {
        if let Some(positions) = number(file, field)? {
            return Ok(positions);
        }
    }
    required(config, "max_position_embeddings")
}

/// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between in between.
fn llama3(config: &JsonFile, parameters: &JsonFile, plain: &[f64]) -> Result<Vec<f64>, Error> {
    let [factor, low, high] =
        ["factor", "low_freq_factor", "high_freq_factor"].map(|field| required(parameters, field));
    let (factor, low, high) = (factor?, low?, high?);
    if low >= high {
        let problem = format!("is {low}; less than high_freq_factor, {high}, is expected");
        return Err(parameters.error("low_freq_factor", problem));
    }
    let original = original_positions(config, parameters)?;
    Ok(plain
        .iter()
        .map(|frequency| {
            let wave = 2.0 * PI / frequency;
            if wave < original / high {
                *frequency
            } else if wave > original / low {
                frequency / factor
            } else {
                let smooth = (original / wave - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        })
        .collect())
}

/// YaRN (Peng et al. 2023, <https://arxiv.org/abs/2309.00071>), and what cosines and sines are
/// multiplied by.
fn yarn(
    config: &JsonFile,
    parameters: &JsonFile,
    plain: &[f64],
    theta: f64,
) -> Result<(Vec<f64>, f64), Error> {
    let original = original_positions(config, parameters)?;
    let factor = match number(parameters, "factor")? {
        Some(factor) => factor,
        None => required(config, "max_position_embeddings")? / original,
    };
    let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let attention = match number(parameters, "attention_factor")? {
        Some(attention) => attention,
        None => match (parameters.f64("mscale")?, parameters.f64("mscale_all_dim")?) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
            _ => scale(1.0),
        },
    };
    let dims = (2 * plain.len()) as f64;
    // The dimension that turns so many times over the original positions.
    let dimension = |turns: f64| dims * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let mut low = dimension(number(parameters, "beta_fast")?.unwrap_or(32.0));
    let mut high = dimension(number(parameters, "beta_slow")?.unwrap_or(1.0));
    if parameters.bool("truncate")?.unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dims - 1.0));
    if low == high {
        high += 0.001;
    }
    let frequency = |(pair, plain): (usize, &f64)| {
        let slowed = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        plain / factor * slowed + plain * (1.0 - slowed)
    };
    Ok((plain.iter().enumerate().map(frequency).collect(), attention))
}

/// LongRoPE (Ding et al. 2024, <https://arxiv.org/abs/2402.13753>): a divisor for each pair, one list
/// for short texts and one for long.
fn long_rope(
    config: &JsonFile,
    parameters: &JsonFile,
    plain: &[f64],
) -> Result<(Frequencies, f64), Error> {
    let original = original_positions(config, parameters)?;
    let factor = match number(parameters, "factor")? {
        Some(factor) => factor,
        None => required(config, "max_position_embeddings")? / original,
    };
    let attention = match number(parameters, "attention_factor")? {
        Some(attention) => attention,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / original.ln()).sqrt(),
    };
    let divided = |field: &str| -> Result<Vec<f64>, Error> {
        let list = parameters.raw(field).and_then(|value| value.as_array());
        let divisors: Option<Vec<f64>> = list.and_then(|list| {
            list.iter().map(|v| v.as_f64().filter(|v| v.is_finite() && *v > 0.0)).collect()
        });
        match divisors {
            Some(divisors) if divisors.len() == plain.len() => {
                Ok(plain.iter().zip(divisors).map(|(plain, divisor)| plain / divisor).collect())
            }
            _ => {
                let problem =
                    format!("must be a list of {} numbers above 0, one a pair", plain.len());
                Err(parameters.error(field, problem))
            }
        }
    };
    let (short, long) = (divided("short_factor")?, divided("long_factor")?);
    Ok((Frequencies::Long { short, long, positions: original as usize }, attention))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(value: Value) -> JsonFile {
        let Value::Object(map) = value else { panic!("{value}") };
        JsonFile::new("config.json", map)
    }

    fn read(config: Value) -> Result<Rotary, Error> {
        let config = file(config);
        Rotary::read(&config, &parameters(&config)?, 16, 10000.0)
    }

    /// What transformers 5.23 computes in f32 for heads of 16 values.
    fn check(config: Value, tokens: usize, expected: [f64; 8], factor: f64) {
        let rotary = read(config.clone()).unwrap();
        let got = rotary.frequencies(rotary.set(tokens));
        assert!((rotary.factor - factor).abs() < 1e-12, "{config}: {}", rotary.factor);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got / expected - 1.0).abs() < 1e-6, "{config}: {got}, should be {expected}");
        }
        assert_eq!(got.len(), 8);
    }

    const PLAIN: [f64; 8] =
        [1.0, 0.31622776, 0.1, 0.031622779, 0.0099999998, 0.0031622779, 0.001, 0.00031622779];

    #[test]
    fn plain_frequencies_wherever_theta_is_named() {
        for config in [
            json!({}),
            json!({"rope_theta": 1e4}),
            json!({"rope_theta": 1e4, "rope_scaling": null}),
            json!({"rope_theta": 7.0, "rope_parameters": {"rope_theta": 1e4}}),
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
        ] {
            check(config, 9, PLAIN, 1.0);
        }
    }

    #[test]
    fn every_kind_of_scaling_is_that_of_transformers() {
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
    fn yarn_is_that_of_transformers() {
        let yarn = json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4,
            "factor": 4.0, "original_max_position_embeddings": 1024}});
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
        check(yarn, 9, expected, 1.138629436111989);
        let yarn = json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4,
            "factor": 4.0, "original_max_position_embeddings": 1024, "mscale": 1.0,
            "mscale_all_dim": 0.5, "truncate": false, "beta_fast": 16, "beta_slow": 2}});
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
        check(yarn, 9, expected, 1.0648216253695715);
    }

    #[test]
    fn longrope_has_frequencies_for_short_texts_and_for_long_ones() {
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
    fn what_is_not_computed_is_refused_by_field() {
        for (config, field) in [
            (json!({"rope_scaling": {"type": "mrope"}}), "type"),
            (json!({"rope_parameters": {"rope_type": "proportional"}}), "rope_type"),
            (json!({"rope_parameters": {"full_attention": {}}}), "rope_parameters"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"rope_theta": -1}), "rope_theta"),
            (json!({"rope_theta": "ten"}), "rope_theta"),
            (json!({"rope_scaling": {"type": "linear"}}), "factor"),
            (
                json!({"rope_scaling": {"type": "longrope", "factor": 1,
                "original_max_position_embeddings": 9, "short_factor": [1]}}),
                "short_factor",
            ),
        ] {
            let error = read(config.clone()).unwrap_err().to_string();
            assert!(error.contains("config.json") && error.contains(field), "{config}: {error}");
        }
    }
}
