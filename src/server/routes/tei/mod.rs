//! The API of Hugging Face's text-embeddings-inference (TEI).
//!
//! TEI serves one model, so TEI's requests do not name a model. This server adds the optional field `model`. Without
//! this field, a route uses the first model of a kind that it supports.

pub(super) mod embed;
pub(super) mod root;
pub(super) mod score;
pub(super) mod similarity;
pub(super) mod tokens;

use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{ApiError, Dialect};
use crate::server::models::{Refusal, ServedModel};

const TEI: Dialect = Dialect::Tei;

/// Returns the response for a request that was refused or failed. `field` is the field that holds the texts of the
/// request.
fn refused(refusal: Refusal, field: &str) -> ApiError {
    TEI.error(refusal).renamed("input", field)
}

/// The side on which texts that are too long are truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum TruncationDirection {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

/// Returns an error if the requested direction is not the tokenizer's own direction, because another direction would
/// need another tokenizer.
fn check_direction(
    model: &ServedModel,
    asked: Option<TruncationDirection>,
) -> Result<(), ApiError> {
    let Some(asked) = asked else { return Ok(()) };
    let own = match model.describe().truncates_left {
        true => TruncationDirection::Left,
        false => TruncationDirection::Right,
    };
    if asked != own {
        let message = format!(
            "truncation_direction: is `{asked:?}`, but this model's tokenizer supports only `{own:?}`"
        );
        return Err(TEI.invalid("truncation_direction", message));
    }
    Ok(())
}
