//! Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): the angles of a batch, and
//! attention over queries and keys that are turned by them.

mod scaling;

use std::collections::BTreeMap;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::gpu::graph::TensorId;
use crate::kernels::attention::{Attention, Heads, Text, attend};
use crate::kernels::rope::{Rope, angles, rope};
use crate::kernels::{Activations, Builder};

pub(super) use scaling::Scaling;

/// How a model turns its heads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rotary {
    /// Values of a head that are turned, from its first on.
    pub dims: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// True where neighbours are a pair, false where the halves are.
    pub interleaved: bool,
    pub scaling: Scaling,
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
        let scaling = config.object("rope_scaling")?.filter(|object| !object.map.is_empty());
        let mut found = match scaling {
            Some(scaling) => Some(scaling),
            None => config.object("rope_parameters")?,
        };
        let mut base = theta;
        match (layer_type, &found) {
            (Some(layer_type), Some(parameters)) => found = parameters.object(layer_type)?,
            (Some(_), None) => {}
            (None, _) => base = config.f64("rope_theta")?.unwrap_or(theta),
        }
        Self::of(config, found.as_ref(), head, base)
    }

    /// By the parameters of some layers; `theta` is the base where they name none.
    ///
    /// # Errors
    /// As [`Rotary::read`].
    pub fn of(
        config: &JsonFile,
        parameters: Option<&JsonFile>,
        head: usize,
        theta: f64,
    ) -> Result<Self, Error> {
        let mut rotary = Self::plain(head, theta);
        if let Some(parameters) = parameters {
            if let Some((field, _)) = parameters.map.iter().find(|(_, value)| value.is_object()) {
                return Err(parameters.unsupported(field, "one set for all layers is"));
            }
            rotary.theta = parameters.f64("rope_theta")?.unwrap_or(rotary.theta);
            if parameters.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(parameters.unsupported("partial_rotary_factor", "1 is"));
            }
            rotary.check(config, "rope_theta")?;
            rotary.scaling = Scaling::read(config, parameters, rotary.dims, rotary.theta)?;
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

    /// Pairs of values of a head that are turned.
    pub fn pairs(&self) -> usize {
        self.dims / 2
    }

    /// The angles that a batch needs. A text's depend on nothing but its own length.
    pub fn tables(&self, builder: &mut Builder, batch: &PackedBatch) -> Tables {
        let lengths = || batch.texts.iter().map(|[_, tokens, _]| *tokens as usize);
        // The longest text of each set of frequencies, then the first row of its table.
        let mut sets: BTreeMap<usize, usize> = BTreeMap::new();
        for tokens in lengths() {
            let longest = sets.entry(self.scaling.set(tokens)).or_default();
            *longest = (*longest).max(tokens);
        }
        let mut table = Vec::new();
        for (set, rows) in &mut sets {
            let first = table.len() / self.pairs();
            let frequencies = self.scaling.frequencies(self.dims, self.theta, *set);
            table.extend(angles(&frequencies, self.scaling.magnitude(), *rows));
            *rows = first;
        }
        let rows: Vec<u32> = lengths()
            .flat_map(|tokens| {
                let first = sets.get(&self.scaling.set(tokens)).copied().unwrap_or(0);
                first as u32..(first + tokens) as u32
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
        texts: &[Text],
        attention: &Attention,
    ) -> Activations {
        let Attention { heads, head, .. } = *attention;
        let (pairs, interleaved) = (self.pairs(), self.interleaved);
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
