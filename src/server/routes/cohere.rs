//! Cohere's API of version 2: `/v2/embed` and `/v2/rerank`.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::answer::{json, small, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::observe::request_id;
use super::rerank::{Document, RankedDocument, rank};
use crate::config::ModelKind;
use crate::embedder::{EmbedOptions, EmbedTask, OnTooLong};
use crate::output::{OutputPrecision, Quantized, quantize};
use crate::server::models::{ModelDescription, Texts};

const COHERE: Dialect = Dialect::Cohere;

/// The texts to embed, and options for their vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "model": "all-MiniLM-L6-v2",
    "texts": ["A cat sat on the roof.", "The dog ran."],
    "input_type": "search_document",
    "embedding_types": ["float"],
}))]
pub(crate) struct CohereEmbedRequest {
    /// Name of a model that `GET /v1/models` lists. Default: the first embedding model.
    model: Option<String>,
    texts: Option<Vec<String>>,
    /// Texts as lists of content parts, in place of `texts`.
    inputs: Option<Vec<CohereInput>>,
    /// Images are not supported.
    #[schema(value_type = Option<Vec<String>>)]
    images: Option<serde::de::IgnoredAny>,
    /// Role of the texts. `search_query` and `search_document` select the model's prompts for queries and
    /// documents. Any other value selects the model's prompt of that name. `classification` and
    /// `clustering` are accepted even if the model has no such prompt.
    input_type: Option<String>,
    /// Encodings of the vectors. Default: `float`.
    embedding_types: Option<Vec<EmbeddingType>>,
    /// Truncates vectors to this many values and scales them to length one.
    output_dimension: Option<usize>,
    /// Maximum number of tokens of a text, without special tokens. Default: the model's maximum.
    max_tokens: Option<usize>,
    /// The treatment of texts that are too long. Default: `END`.
    truncate: Option<Truncate>,
    /// Priority in Cohere's own queue. This field has no effect here.
    #[expect(
        dead_code,
        reason = "declared so that requests may contain this field; its value is not read"
    )]
    priority: Option<i64>,
}

/// A text as a list of content parts.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CohereInput {
    content: Vec<CohereContent>,
}

/// A content part. Only text is supported.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CohereContent {
    #[schema(example = "text")]
    r#type: String,
    text: Option<String>,
    #[expect(
        dead_code,
        reason = "declared so that requests may contain this field; its value is not read"
    )]
    #[schema(value_type = Option<Object>)]
    image_url: Option<serde::de::IgnoredAny>,
}

/// An encoding of vectors in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmbeddingType {
    /// Numbers, as the model computes them.
    Float,
    /// Integers from -127 to 127. Each vector is divided by its largest absolute value and multiplied by
    /// 127.
    Int8,
    /// The integers of `int8`, plus 128.
    Uint8,
    /// One bit for each value, which is set if the value is positive. A byte holds eight values, the first one in its
    /// highest bit. Then 128 is subtracted from the byte.
    Binary,
    /// The bytes of `binary` before 128 is subtracted.
    Ubinary,
    /// Little-endian float32 values in base64.
    Base64,
}

/// The treatment of texts that are too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Truncate {
    /// Refuse the request with an error.
    None,
    /// Truncate the text at its start. The request is refused if the model's own tokenizer truncates at the end.
    Start,
    /// Truncate the text at its end. The request is refused if the model's own tokenizer truncates at the start.
    End,
}

impl ApiRequest for CohereEmbedRequest {
    const DIALECT: Dialect = COHERE;
}

/// The vectors in each encoding, in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CohereEmbedResponse {
    id: String,
    embeddings: EmbeddingsByType,
    texts: Vec<String>,
    meta: Meta,
    #[schema(example = "embeddings_by_type")]
    response_type: &'static str,
}

/// Vectors in each requested encoding.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct EmbeddingsByType {
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uint8: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubinary: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<String>>,
}

/// Version of the API, and the units that Cohere would bill.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Meta {
    api_version: ApiVersion,
    billed_units: BilledUnits,
}

/// Version of the API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiVersion {
    version: &'static str,
}

/// Units that Cohere would bill.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BilledUnits {
    /// Token count of all texts, special tokens included.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<usize>,
    /// Number of searches, which is always 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    search_units: Option<usize>,
}

impl Meta {
    fn new(input_tokens: Option<usize>, search_units: Option<usize>) -> Self {
        Meta {
            api_version: ApiVersion { version: "2" },
            billed_units: BilledUnits { input_tokens, search_units },
        }
    }
}

/// Embed texts
///
/// Vectors are bit-identical to those of `/v1/embeddings`. `int8` and `uint8` keep the direction of a
/// vector but not its length, so compare such vectors by cosine.
#[utoipa::path(
    post,
    path = "/v2/embed",
    tag = "Cohere and Jina",
    request_body = CohereEmbedRequest,
    responses((status = OK, body = CohereEmbedResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embed(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<CohereEmbedRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
    if request.images.is_some() {
        return Err(COHERE.invalid("images", "images: images are not supported; send texts"));
    }
    let texts = match (request.texts, request.inputs) {
        (Some(texts), None) => texts,
        (None, Some(inputs)) => texts_of(inputs)?,
        (Some(_), Some(_)) => {
            return Err(
                COHERE.invalid("inputs", "inputs: `texts` is given too; send only one of the two")
            );
        }
        (None, None) => {
            return Err(COHERE.invalid("texts", "texts: is missing; send a list of texts"));
        }
    };
    app.check_count(COHERE, "texts", texts.len())?;
    let described = model.describe();
    let mut options = prompt_options(request.input_type.as_deref(), &described)?;
    options.truncate_dim = request.output_dimension;
    options.normalize = request.output_dimension.is_some();
    options.on_too_long = on_too_long(request.truncate, &described)?;
    let texts = match request.max_tokens {
        None => texts,
        Some(0) => {
            return Err(COHERE.invalid("max_tokens", "max_tokens: is 0; give at least 1"));
        }
        Some(maximum) => {
            let limited = model.limit_tokens(texts, maximum, options.on_too_long).await;
            limited.map_err(|refusal| COHERE.error(refusal).renamed("input", "texts"))?
        }
    };
    let rows = model.embed(Texts::Text(texts.clone()), options).await;
    let rows = rows.map_err(|refusal| {
        COHERE.error(refusal).renamed("truncate_dim", "output_dimension").renamed("input", "texts")
    })?;
    let types = request.embedding_types.filter(|types| !types.is_empty());
    let types = types.unwrap_or_else(|| vec![EmbeddingType::Float]);
    let values = rows.rows.iter().map(Vec::len).sum::<usize>() * types.len();
    let id = request_id(&headers);
    let (tokens, cut) = (rows.tokens, rows.truncated.len());
    let answer = move || CohereEmbedResponse {
        id,
        embeddings: EmbeddingsByType::new(rows.rows, &types),
        texts,
        meta: Meta::new(Some(tokens), None),
        response_type: "embeddings_by_type",
    };
    Ok(truncated_header(json(&model, values, answer).await?, cut))
}

/// Returns the text of each input. The parts of an input are joined by newlines.
fn texts_of(inputs: Vec<CohereInput>) -> Result<Vec<String>, ApiError> {
    let text = |(i, input): (usize, CohereInput)| {
        let part =
            |(j, content): (usize, CohereContent)| match (content.r#type.as_str(), content.text) {
                ("text", Some(text)) => Ok(text),
                (kind, _) => {
                    let param = format!("inputs[{i}].content[{j}]");
                    let message =
                        format!("{param}: is of type `{kind}`; only the type `text` is supported");
                    Err(COHERE.invalid(param, message))
                }
            };
        let parts = input.content.into_iter().enumerate().map(part);
        parts.collect::<Result<Vec<String>, _>>().map(|parts| parts.join("\n"))
    };
    inputs.into_iter().enumerate().map(text).collect()
}

/// Returns the options with the prompt that `input_type` selects.
fn prompt_options(
    input_type: Option<&str>,
    described: &ModelDescription,
) -> Result<EmbedOptions, ApiError> {
    let task = |task| EmbedOptions { task: Some(task), ..EmbedOptions::default() };
    Ok(match input_type {
        None => EmbedOptions::default(),
        Some("search_query") => task(EmbedTask::Query),
        Some("search_document") => task(EmbedTask::Document),
        Some(name) if described.prompts.contains_key(name) => {
            EmbedOptions { prompt_name: Some(name.to_owned()), ..EmbedOptions::default() }
        }
        Some("classification" | "clustering") => EmbedOptions::default(),
        Some(other) => {
            let message = format!(
                "input_type: `{other}` is not supported; supported: `search_query`, \
                 `search_document`, `classification`, `clustering`, or the name of a prompt of the model"
            );
            return Err(COHERE.invalid("input_type", message));
        }
    })
}

fn on_too_long(
    truncate: Option<Truncate>,
    described: &ModelDescription,
) -> Result<OnTooLong, ApiError> {
    let (asked, at_start) = match truncate {
        Some(Truncate::None) => return Ok(OnTooLong::Error),
        None => return Ok(OnTooLong::Truncate),
        Some(Truncate::Start) => ("START", true),
        Some(Truncate::End) => ("END", false),
    };
    if at_start != described.truncates_left {
        let supported = if described.truncates_left { "start" } else { "end" };
        let message = format!(
            "truncate: is {asked}, but this model's tokenizer truncates texts only at the \
             {supported}; leave the field out, or send `NONE` to refuse texts that are too long"
        );
        return Err(COHERE.invalid("truncate", message));
    }
    Ok(OnTooLong::Truncate)
}

impl EmbeddingsByType {
    fn new(rows: Vec<Vec<f32>>, types: &[EmbeddingType]) -> Self {
        let mut all = EmbeddingsByType::default();
        for kind in types {
            match kind {
                EmbeddingType::Float => {}
                EmbeddingType::Int8 => {
                    all.int8 = Some(rows.iter().map(|row| to_int8(row)).collect());
                }
                EmbeddingType::Uint8 => {
                    let unsigned = |value: i8| (i16::from(value) + 128) as u8;
                    let row = |row: &Vec<f32>| to_int8(row).into_iter().map(unsigned).collect();
                    all.uint8 = Some(rows.iter().map(row).collect());
                }
                EmbeddingType::Binary => {
                    all.binary = Some(rows.iter().map(|row| to_bits(row).1).collect());
                }
                EmbeddingType::Ubinary => {
                    all.ubinary = Some(rows.iter().map(|row| to_bits(row).0).collect());
                }
                EmbeddingType::Base64 => {
                    let bytes = |row: &Vec<f32>| -> Vec<u8> {
                        row.iter().flat_map(|value| value.to_le_bytes()).collect()
                    };
                    all.base64 = Some(rows.iter().map(|row| STANDARD.encode(bytes(row))).collect());
                }
            }
        }
        all.float = types.contains(&EmbeddingType::Float).then_some(rows);
        all
    }
}

/// Returns a vector as integers from -127 to 127, scaled by its own largest absolute value. A common scale
/// for many vectors is not used, because a vector must not depend on the other texts of its request.
fn to_int8(row: &[f32]) -> Vec<i8> {
    let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { 127.0 / f64::from(largest) } else { 0.0 };
    row.iter().map(|value| (f64::from(*value) * scale).round() as i8).collect()
}

/// Returns the packed signs of a vector, as unsigned and as signed bytes.
fn to_bits(row: &[f32]) -> (Vec<u8>, Vec<i8>) {
    match quantize(row, row.len(), OutputPrecision::Ubinary, None) {
        Ok(Quantized::Uint8(bytes)) => {
            let signed = bytes.iter().map(|byte| (byte ^ 0x80) as i8).collect();
            (bytes, signed)
        }
        // `quantize` fails only for a row without values, and for `Ubinary` it always returns `Uint8`. The code
        // therefore never gets here.
        _ => (Vec::new(), Vec::new()),
    }
}

/// A query and the documents to rank.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "query": "Where is the cat?",
    "documents": ["A cat sat on the roof.", "The dog ran."],
    "top_n": 1,
}))]
pub(crate) struct CohereRerankRequest {
    /// Name of a reranker or multi-vector model that `GET /v1/models` lists. Default: the first reranker, or the first
    /// multi-vector model if there is no reranker.
    model: Option<String>,
    query: String,
    /// Texts, or objects with a field `text`.
    documents: Vec<Document>,
    /// Number of results to return. Default: all.
    top_n: Option<usize>,
    /// Maximum number of tokens of a document. Longer documents are truncated. Default: the model's maximum.
    max_tokens_per_doc: Option<usize>,
    /// Whether to return each document with its score.
    return_documents: Option<bool>,
    /// Fields of documents to rank by. Only `["text"]` is supported.
    rank_fields: Option<Vec<String>>,
    /// Priority in Cohere's own queue. This field has no effect here.
    #[expect(
        dead_code,
        reason = "declared so that requests may contain this field; its value is not read"
    )]
    priority: Option<i64>,
}

impl ApiRequest for CohereRerankRequest {
    const DIALECT: Dialect = COHERE;
}

/// Ranked documents, the most relevant first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CohereRerankResponse {
    id: String,
    results: Vec<RankedDocument>,
    meta: Meta,
}

/// Rank documents for a query
///
/// Scores are the same as those of `/v1/rerank`.
#[utoipa::path(
    post,
    path = "/v2/rerank",
    tag = "Cohere and Jina",
    request_body = CohereRerankRequest,
    responses((status = OK, body = CohereRerankResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn rerank(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<CohereRerankRequest>,
) -> Result<Response, ApiError> {
    let only_text = |fields: &Vec<String>| fields.iter().all(|field| field == "text");
    if !request.rank_fields.as_ref().is_none_or(only_text) {
        let message = "rank_fields: only [\"text\"] is supported; join the fields of a document into its field `text`";
        return Err(COHERE.invalid("rank_fields", message));
    }
    let question = super::rerank::Question {
        model: request.model,
        query: request.query,
        documents: request.documents,
        top_n: request.top_n,
        return_documents: request.return_documents.unwrap_or(false),
        max_tokens_per_doc: request.max_tokens_per_doc,
        on_too_long: OnTooLong::Truncate,
    };
    let ranked = rank(&app, COHERE, question).await?;
    let meta = Meta::new(None, Some(1));
    let answer = CohereRerankResponse { id: request_id(&headers), results: ranked.results, meta };
    Ok(truncated_header(small(&answer)?, ranked.truncated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_the_direction_of_a_vector() {
        assert_eq!(to_int8(&[0.5, -0.25, 0.0, 0.125]), [127, -64, 0, 32]);
        assert_eq!(to_int8(&[-3.0, 3.0]), [-127, 127]);
        assert_eq!(to_int8(&[0.0, 0.0]), [0, 0]);
        assert_eq!(to_int8(&[f32::MIN_POSITIVE, f32::MAX]), [0, 127]);
        assert_eq!(to_int8(&[]), Vec::<i8>::new());
    }

    #[test]
    fn bits_are_packed_as_numpy_packs_them() {
        let row = [0.5, -0.5, 0.0, 0.25, 1.0, -1.0, 2.0, -2.0, 0.1];
        assert_eq!(to_bits(&row), (vec![0b1001_1010, 0b1000_0000], vec![0x1a, 0]));
    }

    #[test]
    fn only_requested_encodings_are_returned() {
        let by_type = EmbeddingsByType::new(vec![vec![1.0, -0.5]], &[EmbeddingType::Uint8]);
        let json = serde_json::to_value(&by_type).unwrap();
        assert_eq!(json, serde_json::json!({ "uint8": [[255, 64]] }));
    }
}
