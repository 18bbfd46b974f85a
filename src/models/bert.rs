//! BERT (Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>): MiniLM, BGE, E5, GTE v1, mxbai,
//! Snowflake Arctic v1.
//!
//! BERT has learned absolute positions, token types, and a norm after each residual sum. The default activation is the
//! exact GELU.

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
    check_options(config)?;
    let sizes = EncoderSizes::read(config, &FIELDS, "gelu")?;
    let prefix = weights.prefix_of(WORDS)?;
    let embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, true)?;
    let eps = epsilon(config, "layer_norm_eps", 1e-12)?;
    Ok(Box::new(AbsoluteEncoder::bert(prefix, sizes, embeddings, eps)))
}
