//! DistilBERT (Sanh et al. 2019, <https://arxiv.org/abs/1910.01108>): distiluse, msmarco-distilbert,
//! multi-qa-distilbert.
//!
//! DistilBERT is BERT without token types. The config fields and tensors of DistilBERT have names that differ from
//! BERT's. Epsilon is always 1e-12.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{AbsoluteEncoder, LayerNames};
use crate::models::blocks::embeddings::{Embeddings, WORDS};
use crate::models::blocks::sizes::{EncoderSizes, Fields};
use crate::weights::WeightFiles;

const FIELDS: Fields = Fields {
    hidden: "dim",
    heads: "n_heads",
    intermediate: "hidden_dim",
    layers: "n_layers",
    activation: "activation",
};

const LAYER: LayerNames = LayerNames {
    qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
};

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let prefix = weights.prefix_of(WORDS)?;
    let embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, false)?;
    Ok(Box::new(AbsoluteEncoder {
        layers: (0..sizes.layers).map(|i| format!("transformer.layer.{i}")).collect(),
        names: LAYER,
        ..AbsoluteEncoder::bert(prefix, sizes, embeddings, 1e-12)
    }))
}
