//! The architectures: a file each, and the table of `model_type`s. Models state facts and make
//! graphs; they decide no dtype and touch no GPU.

mod bert;
pub(crate) mod layers;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::{Activations, Builder};
use crate::weights::{Loader, WeightFiles};

/// A family of models: what `config.json` calls it, and how its config is read.
struct Architecture {
    model_type: &'static str,
    read: fn(&JsonFile, &WeightFiles) -> Result<Transformer, Error>,
}

/// Every `model_type` that Vectile computes.
const TABLE: &[Architecture] = &[Architecture {
    model_type: "bert",
    read: |config, weights| Ok(Transformer::Bert(bert::Bert::read(config, weights)?)),
}];

/// A transformer whose config and tensor shapes have been read, without its weights.
#[derive(Debug, Clone)]
pub(crate) enum Transformer {
    Bert(bert::Bert),
}

/// A transformer's weights on the GPU.
#[derive(Debug)]
pub(crate) enum Loaded {
    Bert(bert::Weights),
}

/// What the rest of the program needs to know of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Width of its hidden states.
    pub hidden: usize,
    /// Its widest activation, for the memory of a batch.
    pub widest: usize,
    /// Rows of its embedding table: every token id is below.
    pub table_rows: usize,
    /// Rows of its token type table, where it has one: every token type is below.
    pub type_rows: Option<usize>,
    /// The most tokens it has positions for.
    pub positions: Option<usize>,
    /// What is known of its range.
    pub f16: F16Facts,
}

impl Transformer {
    /// Reads `config.json`, and the shape of the embedding table.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a `model_type` that is not in the table or an option that is not
    /// computed; [`Error::Config`] for impossible sizes.
    pub fn read(config: &JsonFile, weights: &WeightFiles) -> Result<Self, Error> {
        (architecture(config)?.read)(config, weights)
    }

    /// What the rest of the program needs to know.
    pub fn facts(&self) -> Facts {
        match self {
            Transformer::Bert(bert) => bert.facts(),
        }
    }

    /// Its sizes, in one line.
    pub fn describe(&self) -> String {
        match self {
            Transformer::Bert(bert) => bert.describe(),
        }
    }

    /// Loads its weights.
    pub fn load(&self, loader: &mut Loader) -> Result<Loaded, Error> {
        match self {
            Transformer::Bert(bert) => Ok(Loaded::Bert(bert.load(loader)?)),
        }
    }

    /// Puts its forward pass over a batch on a graph: hidden states `[tokens, hidden]`.
    pub fn forward(
        &self,
        weights: &Loaded,
        builder: &mut Builder,
        batch: &PackedBatch,
    ) -> Activations {
        match (self, weights) {
            (Transformer::Bert(bert), Loaded::Bert(weights)) => {
                bert.forward(weights, builder, batch)
            }
        }
    }
}

fn architecture(config: &JsonFile) -> Result<&'static Architecture, Error> {
    let supported = || {
        let names: Vec<&str> = TABLE.iter().map(|a| a.model_type).collect();
        format!("supported are {}", names.join(", "))
    };
    let Some(model_type) = config.str("model_type")? else {
        return Err(Error::config(
            &config.name,
            "model_type",
            format!("is missing; {}", supported()),
        ));
    };
    TABLE
        .iter()
        .find(|a| a.model_type == model_type)
        .ok_or_else(|| Error::unsupported(&config.name, "model_type", model_type, supported()))
}
