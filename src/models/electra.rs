//! The discriminator of ELECTRA (Clark et al. 2020, <https://arxiv.org/abs/2003.10555>).
//!
//! ELECTRA is BERT with embedding tables that may be narrower (`embedding_size`) than its layers. If they are narrower,
//! `embeddings_project` projects their rows to the hidden width.

use crate::config::JsonFile;
use crate::error::Error;
use crate::models::Transformer;
use crate::models::blocks::absolute_encoder::{AbsoluteEncoder, check_options};
use crate::models::blocks::embeddings::{Embeddings, Projection, WORDS};
use crate::models::blocks::fields::{count_or, epsilon};
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
    let mut embeddings = Embeddings::read(config, weights, &prefix, sizes.hidden, true)?;
    embeddings.width = count_or(config, "embedding_size", 128, 65536)?;
    if embeddings.width != sizes.hidden {
        embeddings.projection = Some(Projection::after("embeddings_project"));
    }
    let eps = epsilon(config, "layer_norm_eps", 1e-12)?;
    Ok(Box::new(AbsoluteEncoder::bert(prefix, sizes, embeddings, eps)))
}
