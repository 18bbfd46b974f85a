//! Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): what configs say of them, the angles
//! of a batch, and how the weights of queries and keys lie.

mod scaling;

use std::collections::BTreeMap;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Builder;
use crate::kernels::rope::{Angles, angles};
use crate::weights::{Axis, Columns};

pub(in crate::models) use scaling::Scaling;

/// How a model turns its heads.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct Rotary {
    /// Values of a head that are turned, from its first on.
    pub dims: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// True where neighbours are a pair, false where the halves are.
    pub interleaved: bool,
    pub scaling: Scaling,
}

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
        for file in std::iter::once(config).chain(parameters) {
            if file.f64("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(file.unsupported("partial_rotary_factor", "supported: 1"));
            }
        }
        if let Some(parameters) = parameters {
            if let Some((field, _)) = parameters.map.iter().find(|(_, value)| value.is_object()) {
                return Err(parameters.unsupported(field, "one set for all layers is"));
            }
            rotary.theta = parameters.f64("rope_theta")?.unwrap_or(rotary.theta);
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

    /// Columns that are heads, of which the first so many are turned.
    pub fn columns(&self, axis: Axis, heads: usize) -> Columns {
        match self.interleaved {
            true => axis.into(),
            false => axis.side_by_side(heads, self.pairs()),
        }
    }

    /// The angles that a batch needs. A text's depend on nothing but its own length.
    pub fn angles(&self, builder: &mut Builder, batch: &PackedBatch) -> Angles {
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
        Angles::new(builder, &rows, &table, self.pairs())
    }
}
