//! The routes `/tokenize` and `/decode`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TEI, refused};
use crate::embedder::EmbedOptions;
use crate::server::models::Texts;
use crate::server::routes::App;
use crate::server::routes::answer::json;
use crate::server::routes::body::{ApiRequest, Json};
use crate::server::routes::error::{ApiError, Dialect, ErrorBody};
use crate::server::routes::input::Input;
use crate::tokenize::Piece;

/// The texts to tokenize, and options for their tokens.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "inputs": "A cat sat on the roof." }))]
pub(crate) struct TokenizeRequest {
    inputs: Input,
    /// Whether to include the special tokens that the tokenizer adds. Default: true.
    add_special_tokens: Option<bool>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
    /// Name of a served model.
    model: Option<String>,
}

/// A token of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenObject {
    id: u32,
    /// The part of the text that the token stands for, or the name of a special token.
    text: String,
    special: bool,
    /// Start of the token in the joined prompt and text, in bytes, or null for a special token.
    start: Option<usize>,
    /// End of the token in the joined prompt and text, in bytes, or null for a special token.
    stop: Option<usize>,
}

/// Token ids to decode.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "ids": [101, 102], "skip_special_tokens": false }))]
pub(crate) struct DecodeRequest {
    /// The token ids of one text, or of several.
    #[schema(value_type = Vec<Vec<u32>>)]
    ids: Input,
    /// Whether to leave special tokens out. Default: true.
    skip_special_tokens: Option<bool>,
    /// Name of a served model.
    model: Option<String>,
}

impl ApiRequest for TokenizeRequest {
    const DIALECT: Dialect = TEI;
}

impl ApiRequest for DecodeRequest {
    const DIALECT: Dialect = TEI;
}

/// Tokenize texts
///
/// Returns all tokens: texts are not truncated to the model's maximum length.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "text-embeddings-inference",
    request_body = TokenizeRequest,
    responses((status = OK, body = Vec<Vec<TokenObject>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn tokenize(
    State(app): State<App>,
    Json(request): Json<TokenizeRequest>,
) -> Result<Response, ApiError> {
    let model = app.named_or_first(request.model.as_deref())?;
    let texts = app.only_text(TEI, "inputs", request.inputs.texts)?;
    let special = request.add_special_tokens.unwrap_or(true);
    let options = EmbedOptions { prompt_name: request.prompt_name, ..EmbedOptions::default() };
    let tokens = model
        .tokens(texts, options, special)
        .await
        .map_err(|refusal| refused(refusal, "inputs"))?;
    let count = tokens.iter().map(|(_, pieces)| pieces.len()).sum();
    json(&model, count, move || tokens.into_iter().map(objects).collect::<Vec<_>>()).await
}

/// Returns the tokens of a text that is joined with its prompt.
fn objects((joined, pieces): (String, Vec<Piece>)) -> Vec<TokenObject> {
    let object = |piece: Piece| {
        let (start, stop) = piece.bytes;
        let part = joined.as_bytes().get(start..stop).filter(|_| !piece.special);
        let text = part.map_or(piece.token, |part| String::from_utf8_lossy(part).into_owned());
        let offset = |at: usize| (!piece.special).then_some(at);
        TokenObject {
            id: piece.id,
            text,
            special: piece.special,
            start: offset(start),
            stop: offset(stop),
        }
    };
    pieces.into_iter().map(object).collect()
}

/// Decode token ids
///
/// Returns a list of texts, even for the ids of one text.
#[utoipa::path(
    post,
    path = "/decode",
    tag = "text-embeddings-inference",
    request_body = DecodeRequest,
    responses((status = OK, body = Vec<String>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn decode(
    State(app): State<App>,
    Json(request): Json<DecodeRequest>,
) -> Result<Response, ApiError> {
    let model = app.named_or_first(request.model.as_deref())?;
    app.check_count(TEI, "ids", request.ids.texts.len())?;
    let Texts::Ids(ids) = request.ids.texts else {
        return Err(
            TEI.invalid("ids", "ids: contains text; send token ids, as /tokenize returns them")
        );
    };
    let skip = request.skip_special_tokens.unwrap_or(true);
    let texts = model.decode(ids, skip).await.map_err(|refusal| refused(refusal, "ids"))?;
    let count = texts.len();
    json(&model, count, move || texts).await
}
