//! The API of Hugging Face's text-embeddings-inference (TEI).
//!
//! TEI serves one model, so its requests do not name it. Here the optional field `model` names a model.
//! Without it, a route uses the first model of a kind that can answer.

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

/// Makes the response for a request that was refused or failed. `field` is the field that holds its texts.
fn refused(refusal: Refusal, field: &str) -> ApiError {
    TEI.error(refusal).renamed("input", field)
}

/// The end at which texts that are too long are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum TruncationDirection {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

/// Refuses a direction that differs from the tokenizer's own direction, because another tokenizer would be
/// needed.
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
            "truncation_direction: is {asked:?}; this model's tokenizer supports only {own:?}"
        );
        return Err(TEI.invalid("truncation_direction", message));
    }
    Ok(())
}
