//! ALBERT (Lan et al. 2019, <https://arxiv.org/abs/1909.11942>). Published models: paraphrase-albert.
//!
//! ALBERT is BERT with two differences. Its embedding tables are narrow, and their rows are always projected to the
//! hidden width. The checkpoint stores few groups of layers, and the model applies each group several times. Layer i
//! uses group ⌊i / (`num_hidden_layers` / `num_hidden_groups`)⌋, computed in f64. A group has `inner_group_num` inner
//! layers. The default activation is the tanh approximation of GELU.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{AbsoluteEncoder, LayerNames, check_options};
use crate::models::blocks::embeddings::{Embeddings, Projection, WORDS};
use crate::models::blocks::fields::{count_or, epsilon};
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::WeightFiles;

const LAYER: LayerNames = LayerNames {
    qkv: &["attention.query", "attention.key", "attention.value"],
    output: "attention.dense",
    attention_norm: "attention.LayerNorm",
    up: "ffn",
    down: "ffn_output",
    norm: "full_layer_layer_norm",
};

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    check_options(config)?;
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu_new")?;
    let prefix = weights.prefix_of(WORDS)?;
    let mut embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, true)?;
    embeddings.width = count_or(config, "embedding_size", 128, 65536)?;
    embeddings.projection = Some(Projection::after("encoder.embedding_hidden_mapping_in"));
    let groups = count_or(config, "num_hidden_groups", 1, 1000)?;
    let inner = count_or(config, "inner_group_num", 1, 1000)?;
    if groups > sizes.layers {
        let problem = format!(
            "is {groups}, but there cannot be more groups than layers, and num_hidden_layers is {}",
            sizes.layers
        );
        return Err(config.error("num_hidden_groups", problem));
    }
    let layers = (0..groups).flat_map(|group| {
        (0..inner).map(move |i| format!("encoder.albert_layer_groups.{group}.albert_layers.{i}"))
    });
    let order = (0..sizes.layers).flat_map(|layer| {
        let group = (layer as f64 / (sizes.layers as f64 / groups as f64)) as usize;
        group * inner..(group + 1) * inner
    });
    let eps = epsilon(config, "layer_norm_eps", 1e-12)?;
    Ok(Box::new(AbsoluteEncoder {
        layers: layers.collect(),
        order: order.collect(),
        names: LAYER,
        ..AbsoluteEncoder::bert(prefix, sizes, embeddings, eps)
    }))
}
