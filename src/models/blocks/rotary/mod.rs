//! Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): their config fields, the angles of a batch,
//! and the order of columns in the query and key weights.

mod scaling;

use std::collections::BTreeMap;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Builder;
use crate::kernels::rope::{Angles, angles};
use crate::weights::{Axis, Columns};

pub(in crate::models) use scaling::Scaling;

/// The settings by which a model rotates its heads.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct Rotary {
    /// The number of leading values of a head that are rotated.
    pub dims: usize,
    /// The base from whose powers the wavelengths are computed.
    pub theta: f64,
    /// True if neighbouring values form a pair. False if value i of the first half and value i of the second half form
    /// a pair.
    pub interleaved: bool,
    pub scaling: Scaling,
}

impl Rotary {
    /// Returns the rotation of the whole head without scaling, where value i of each half belongs to pair i.
    pub fn plain(head: usize, theta: f64) -> Self {
        Rotary { dims: head, theta, interleaved: false, scaling: Scaling::None }
    }

    /// Reads `rope_scaling`, or else `rope_parameters`, as transformers does. `rope_theta` may be in that object or
    /// beside it. `layer_type` selects the parameters if they differ by layer.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] for a kind of scaling that Vectile does not compute. Returns [`Error::Config`]
    /// for a head of odd size.
    pub fn read(
        config: &JsonFile,
        head: usize,
        theta: f64,
        layer_type: Option<&str>,
    ) -> Result<Self, Error> {
        let scaling = config.object("rope_scaling")?.filter(|object| !object.map.is_empty());
        let mut found = match scaling {
            Some(scaling) => {
                // transformers ignores `rope_parameters` if the config has `rope_scaling`.
                config.mark_read(&["rope_parameters"]);
                Some(scaling)
            }
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

    /// Reads the rotary parameters of one kind of layer. `theta` is the base if the parameters do not set one.
    ///
    /// # Errors
    /// Returns the errors of [`Rotary::read`].
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
                return Err(parameters.unsupported(
                    field,
                    "only one set of rotary parameters for all layers is supported",
                ));
            }
            rotary.theta = parameters.f64("rope_theta")?.unwrap_or(rotary.theta);
            rotary.check(config, "rope_theta")?;
            rotary.scaling = Scaling::read(config, parameters, rotary.dims, rotary.theta)?;
        }
        rotary.check(config, "rope_theta")?;
        Ok(rotary)
    }

    /// Returns an error for a base or a head size for which there are no angles. `field` is the config field of the
    /// base.
    pub fn check(&self, config: &JsonFile, field: &str) -> Result<(), Error> {
        if !(self.theta.is_finite() && self.theta > 0.0) {
            return Err(
                config.error(field, format!("is {}; expected: a number above 0", self.theta))
            );
        }
        // Dynamic scaling divides by `dims` − 2, so two rotated values are too few.
        if self.dims < 4 || !self.dims.is_multiple_of(2) {
            let problem = format!(
                "makes the rotary position embedding rotate {} values of a head; expected: an even \
                 number of at least 4",
                self.dims
            );
            return Err(config.error("num_attention_heads", problem));
        }
        Ok(())
    }

    /// Returns the number of rotated pairs in a head.
    pub fn pairs(&self) -> usize {
        self.dims / 2
    }

    /// Returns the column order of a matrix in which the first `heads` blocks of `axis` are rotated.
    pub fn columns(&self, axis: Axis, heads: usize) -> Columns {
        match self.interleaved {
            true => axis.into(),
            false => axis.side_by_side(heads, self.pairs()),
        }
    }

    /// Returns the angles of a batch. The angles of a text depend only on its own length.
    pub fn angles(&self, builder: &mut Builder, batch: &PackedBatch) -> Angles {
        let lengths = || batch.texts.iter().map(|text| text.tokens as usize);
        // `sets` maps each set of frequencies to the length of the longest text that uses the set. Later it maps each
        // set to the index of the set's first row in the table of angles.
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
