//! The sizes of an encoder's layers. Model families store them under different config fields.

use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Activation;
use crate::kernels::attention::MAX_HEAD;
use crate::models::blocks::fields::{count, hidden_act};
use crate::weights::Axis;

/// The config fields that most model families use.
pub(in crate::models) const FIELDS: Fields = Fields {
    hidden: "hidden_size",
    heads: "num_attention_heads",
    intermediate: "intermediate_size",
    layers: "num_hidden_layers",
    activation: "hidden_act",
};

/// The config fields in which a model family stores its sizes.
pub(in crate::models) struct Fields {
    pub hidden: &'static str,
    pub heads: &'static str,
    pub intermediate: &'static str,
    pub layers: &'static str,
    pub activation: &'static str,
}

/// The sizes of an encoder's layers.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct EncoderSizes {
    pub hidden: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub activation: Activation,
}

impl EncoderSizes {
    /// Reads the sizes and checks that they fit together. `activation` is the default activation of the model family.
    pub fn read(config: &JsonFile, fields: &Fields, activation: &str) -> Result<Self, Error> {
        Self::with(config, fields, hidden_act(config, fields.activation, activation)?)
    }

    /// Like [`EncoderSizes::read`], but for a model family whose activation is read separately.
    pub fn with(config: &JsonFile, fields: &Fields, activation: Activation) -> Result<Self, Error> {
        let hidden = count(config, fields.hidden, 65536)?;
        let heads = count(config, fields.heads, 1024)?;
        if !hidden.is_multiple_of(heads) || hidden / heads > MAX_HEAD {
            let problem = format!(
                "is {heads} and {} is {hidden}; expected: heads of equal size, with at most {MAX_HEAD} \
                 values each",
                fields.hidden
            );
            return Err(config.error(fields.heads, problem));
        }
        Ok(EncoderSizes {
            hidden,
            heads,
            layers: count(config, fields.layers, 1000)?,
            intermediate: count(config, fields.intermediate, 1 << 20)?,
            activation,
        })
    }

    /// Returns the number of values in a head.
    pub fn head(self) -> usize {
        self.hidden / self.heads
    }

    /// Returns the axis that holds the values of all heads side by side, one block for each head.
    pub fn head_axis(self) -> Axis {
        Axis { blocks: self.heads, block: self.hidden / self.heads }
    }
}
