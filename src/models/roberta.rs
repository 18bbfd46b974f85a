//! RoBERTa (Liu et al. 2019, <https://arxiv.org/abs/1907.11692>). XLM-RoBERTa (multilingual E5, BGE-M3, Snowflake
//! Arctic v2, Granite) and CamemBERT compute the same function as RoBERTa.
//!
//! RoBERTa is BERT with positions that start at the row after `pad_token_id`. The padding token itself takes no
//! position. A text may have `max_position_embeddings` − `pad_token_id` − 1 tokens, for example 512 if the table has
//! 514 rows.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{AbsoluteEncoder, check_options};
use crate::models::blocks::embeddings::{Embeddings, WORDS};
use crate::models::blocks::fields::epsilon;
use crate::models::blocks::sizes::{EncoderSizes, FIELDS};
use crate::weights::WeightFiles;

/// Reads the sizes and checks that they fit together.
pub(super) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
) -> Result<Box<dyn Transformer>, Error> {
    Ok(Box::new(encoder(config, weights, true)?))
}

/// Like [`read`], but for a model family with other tensor names. `types` is true if the family has token types.
pub(super) fn encoder(
    config: &JsonFile,
    weights: &WeightFiles,
    types: bool,
) -> Result<AbsoluteEncoder, Error> {
    check_options(config)?;
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let prefix = weights.prefix_of(WORDS)?;
    let mut embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, types)?;
    let padding = config.usize("pad_token_id")?.unwrap_or(1);
    embeddings.skip_padding(config, "pad_token_id", padding)?;
    let eps = epsilon(config, "layer_norm_eps", 1e-12)?;
    Ok(AbsoluteEncoder::bert(prefix, sizes, embeddings, eps))
}
