//! Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): the angles of a batch, and
//! attention over queries and keys that are turned by them.
//!
//! Frequencies and angles are rounded to f32 where transformers rounds them.

use std::collections::BTreeMap;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::gpu::graph::TensorId;
use crate::kernels::attention::{Attention, Heads, attend};
use crate::kernels::rope::{Rope, angles, rope};
use crate::kernels::{Activations, Builder};

/// How a model turns its heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rotary {
    /// Values of a head that are turned, from its first on.
    pub dims: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// True where neighbours are a pair, false where the halves are.
    pub interleaved: bool,
    pub scaling: Scaling,
}

/// How the wavelengths are stretched for texts longer than those of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scaling {
    None,
    /// All by this factor.
    Linear(f64),
    /// Longer ones by more, whatever the text: <https://kexue.fm/archives/9706>.
    Ntk {
        factor: f64,
        mixed_b: Option<f64>,
    },
    /// By the length of a text that is longer than `trained` tokens, and no other.
    Dynamic {
        factor: f64,
        trained: usize,
    },
}

/// The angles of a batch and each token's row of them.
pub(super) type Tables = [TensorId; 2];

impl Rotary {
    /// The whole head, in halves, without scaling.
    pub fn plain(head: usize, theta: f64) -> Self {
        Rotary { dims: head, theta, interleaved: false, scaling: Scaling::None }
    }

    /// As transformers reads a config: `rope_scaling`, else `rope_parameters` (of `layer_type` where
    /// those differ by layer), with `rope_theta` in or beside them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a scaling that is not computed, [`Error::Config`] for an odd head.
    pub fn read(
        config: &JsonFile,
        head: usize,
        theta: f64,
        layer_type: Option<&str>,
    ) -> Result<Self, Error> {
        let mut found = config.object("rope_scaling")?;
        if found.is_none() {
            found = config.object("rope_parameters")?;
        }
        let mut rotary = Self::plain(head, theta);
        match (layer_type, &found) {
            (Some(layer_type), Some(parameters)) => found = parameters.object(layer_type)?,
            (Some(_), None) => {}
            (None, _) => rotary.theta = config.f64("rope_theta")?.unwrap_or(theta),
        }
        if let Some(parameters) = &found {
            rotary.theta = parameters.f64("rope_theta")?.unwrap_or(rotary.theta);
            rotary.scaling = Scaling::read(config, parameters)?;
            if parameters.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(parameters.unsupported("partial_rotary_factor", "1 is"));
            }
        }
        rotary.check(config, "rope_theta")?;
        Ok(rotary)
    }

    /// Refuses what has no angles; `field` is where the base comes from.
    pub fn check(&self, config: &JsonFile, field: &str) -> Result<(), Error> {
        if !(self.theta.is_finite() && self.theta > 0.0) {
            return Err(config.error(field, format!("is {}; above 0 is expected", self.theta)));
        }
        // The exponent of dynamic scaling has dims - 2 below the line.
        if self.dims < 4 || !self.dims.is_multiple_of(2) {
            let problem = format!(
                "makes rotary positions turn {} values of a head; an even number from 4 on is \
                 expected",
                self.dims
            );
            return Err(config.error("num_attention_heads", problem));
        }
        Ok(())
    }

    /// An angle a position for each pair, for a text of `tokens`.
    fn frequencies(&self, tokens: usize) -> Vec<f64> {
        let dims = self.dims as f64;
        let theta = match self.scaling {
            Scaling::Ntk { factor, mixed_b: None } => self.theta * factor,
            Scaling::Dynamic { factor, trained } if tokens > trained => {
                let stretch = factor * tokens as f64 / trained as f64 - (factor - 1.0);
                self.theta * stretch.powf(dims / (dims - 2.0))
            }
            _ => self.theta,
        };
        let pair = |p: usize| {
            let exponent = (2 * p) as f32 / self.dims as f32;
            let frequency = 1.0 / theta.powf(f64::from(exponent)) as f32;
            let divisor = match self.scaling {
                Scaling::Linear(factor) => factor,
                Scaling::Ntk { factor, mixed_b: None } => factor.powf(2.0 / dims),
                Scaling::Ntk { factor, mixed_b: Some(b) } => {
                    let a = factor.ln() / (dims / 2.0).powf(b);
                    (a * (p as f64 + 1.0).powf(b)).exp()
                }
                Scaling::None | Scaling::Dynamic { .. } => 1.0,
            };
            f64::from(frequency / divisor as f32)
        };
        (0..self.dims / 2).map(pair).collect()
    }

    /// The angles that a batch needs. A text's depend on nothing but its own length.
    pub fn tables(&self, builder: &mut Builder, batch: &PackedBatch) -> Tables {
        let stretched = |tokens: usize| match self.scaling {
            Scaling::Dynamic { trained, .. } => tokens > trained,
            _ => false,
        };
        let lengths = || batch.texts.iter().map(|[_, tokens]| *tokens as usize);
        let longest = lengths().filter(|tokens| !stretched(*tokens)).max().unwrap_or(0);
        let mut table = angles(&self.frequencies(0), 1.0, longest);
        let mut first_rows = BTreeMap::new();
        for tokens in lengths().filter(|tokens| stretched(*tokens)) {
            first_rows.entry(tokens).or_insert_with(|| {
                let first = table.len() / (self.dims / 2);
                table.extend(angles(&self.frequencies(tokens), 1.0, tokens));
                first as u32
            });
        }
        let rows: Vec<u32> = lengths()
            .flat_map(|tokens| {
                let first = first_rows.get(&tokens).copied().unwrap_or(0);
                first..first + tokens as u32
            })
            .collect();
        [builder.input("angles", &table), builder.input("positions", &rows)]
    }

    /// Attention over `qkv`, `[tokens, 3, heads, head]`, with queries and keys turned.
    pub fn attend(
        &self,
        builder: &mut Builder,
        qkv: Activations,
        tables: Tables,
        texts: &[[u32; 2]],
        attention: &Attention,
    ) -> Activations {
        let Attention { heads, head, .. } = *attention;
        let (pairs, interleaved) = (self.dims / 2, self.interleaved);
        let turns = Rope { heads, kv_heads: heads, head, pairs, interleaved };
        let turned = rope(builder, qkv, tables, &turns, None);
        let at = [
            Heads { of: turned, head: 0 },
            Heads { of: turned, head: heads },
            Heads { of: qkv, head: 2 * heads },
        ];
        attend(builder, at, texts, attention, None)
    }
}

impl Scaling {
    fn read(config: &JsonFile, parameters: &JsonFile) -> Result<Self, Error> {
        let named = if parameters.has("rope_type") { "rope_type" } else { "type" };
        let kind = parameters.str(named)?.unwrap_or("default");
        if kind == "default" {
            return Ok(Scaling::None);
        }
        let factor = || {
            let factor = parameters.f64("factor")?.unwrap_or(f64::NAN);
            if factor.is_finite() && factor >= 1.0 {
                return Ok(factor);
            }
            Err(parameters.error("factor", "is no stretch; a number from 1 is expected"))
        };
        Ok(match kind {
            "linear" => Scaling::Linear(factor()?),
            "ntk" if parameters.f64("factor")? == Some(1.0) => Scaling::None,
            "ntk" => Scaling::Ntk { factor: factor()?, mixed_b: parameters.f64("mixed_b")? },
            "dynamic" => Scaling::Dynamic {
                factor: factor()?,
                trained: config.required_size("max_position_embeddings")?,
            },
            _ => {
                let supported = "supported are default, linear, ntk and dynamic";
                return Err(parameters.unsupported(named, supported));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_scaling_is_by_the_length_of_the_text() {
        let scaling = Scaling::Dynamic { factor: 2.0, trained: 16 };
        let rotary = Rotary { scaling, ..Rotary::plain(8, 1000.0) };
        let plain = Rotary::plain(8, 1000.0).frequencies(0);
        assert_eq!(rotary.frequencies(16), plain);
        let longer = rotary.frequencies(32);
        assert_eq!(longer[0], plain[0]);
        // 1000 · (2 · 32 / 16 − 1)^(8 / 6), to the power of −6 / 8.
        let expected = (1000.0 * 3f64.powf(8.0 / 6.0)).powf(-0.75);
        assert!((longer[3] - expected).abs() < 1e-9, "{} {expected}", longer[3]);
    }

    #[test]
    fn ntk_scaling_stretches_every_wavelength() {
        let scaling = |mixed_b| Scaling::Ntk { factor: 8.0, mixed_b };
        let fixed = Rotary { scaling: scaling(None), ..Rotary::plain(8, 20000.0) }.frequencies(3);
        let expected = 160_000f64.powf(-0.75) / 8f64.powf(0.25);
        assert!((fixed[3] - expected).abs() < 1e-8, "{} {expected}", fixed[3]);
        let mixed = Rotary { scaling: scaling(Some(0.5)), ..Rotary::plain(8, 20000.0) };
        // The last pair is stretched by the whole factor.
        let ratio = Rotary::plain(8, 20000.0).frequencies(3)[3] / mixed.frequencies(3)[3];
        assert!((ratio - 8.0).abs() < 1e-5, "{ratio}");
    }
}
