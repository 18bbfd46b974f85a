//! MPNet (Song et al. 2020, <https://arxiv.org/abs/2004.09297>): all-mpnet-base-v2, multi-qa-mpnet,
//! paraphrase-mpnet.
//!
//! MPNet is BERT without token types, with positions from row 2 and a bias on the attention scores that depends on the
//! distance. All layers share the bias table. Distances are grouped as in T5: into 32 buckets up to a distance of 128.
//! transformers uses these numbers and the padding id 1 whatever the config says.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{
    AbsoluteEncoder, BERT_LAYER, LayerNames, check_options,
};
use crate::models::blocks::buckets::Buckets;
use crate::models::blocks::embeddings::{Embeddings, WORDS};
use crate::models::blocks::fields::epsilon;
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::WeightFiles;

const BUCKETS: Buckets = Buckets { count: 32, max_distance: 128 };
const PADDING: usize = 1;

const LAYER: LayerNames = LayerNames {
    qkv: &["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT_LAYER
};

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    check_options(config)?;
    let field = "relative_attention_num_buckets";
    if config.usize(field)?.is_some_and(|count| count != BUCKETS.count) {
        return Err(config.unsupported(field, format!("supported: {}", BUCKETS.count)));
    }
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let prefix = weights.prefix_of(WORDS)?;
    let mut embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, false)?;
    embeddings.skip_padding(config, "max_position_embeddings", PADDING)?;
    let eps = epsilon(config, "layer_norm_eps", 1e-12)?;
    Ok(Box::new(AbsoluteEncoder {
        names: LAYER,
        bias: Some(BUCKETS),
        ..AbsoluteEncoder::bert(prefix, sizes, embeddings, eps)
    }))
}
