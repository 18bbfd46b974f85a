//! The class `Embedder`.

use std::ops::ControlFlow;

use js_sys::Function;
use serde::Deserialize;
use serde_json::json;
use vectile::{Embeddings, EncodeCounts, SearchOptions, TextModel};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error;
use crate::files::Files;
use crate::options;
use crate::values::{embeddings, embeddings_of, floats, json, list, object};

/// Turns texts into vectors.
#[wasm_bindgen]
pub struct Embedder {
    model: vectile::Embedder,
}

/// Encodes inputs, and stops between batches once `stopped()` is true.
pub async fn encode<M: TextModel>(
    model: &M,
    inputs: &[M::Input<'_>],
    options: &M::Options,
    stopped: Option<&Function>,
    mut take: impl FnMut(M::Row),
) -> Result<EncodeCounts, JsValue> {
    let mut failed = None;
    let counts = model
        .encode_each(inputs, options, |_, row| match row {
            _ if is_stopped(stopped) => ControlFlow::Break(()),
            Ok(row) => {
                take(row);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })
        .await
        .map_err(error::of)?;
    match (failed, counts) {
        (Some(error), _) => Err(error::of(error)),
        (None, Some(counts)) => Ok(counts),
        (None, None) => Err(error::aborted()),
    }
}

fn is_stopped(stopped: Option<&Function>) -> bool {
    let answer = stopped.and_then(|stopped| stopped.call0(&JsValue::NULL).ok());
    answer.is_some_and(|answer| answer.is_truthy())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Search {
    top_k: usize,
}

impl Default for Search {
    fn default() -> Self {
        Search { top_k: 10 }
    }
}

#[wasm_bindgen]
impl Embedder {
    /// Loads a model that gives one vector for each text.
    pub async fn load(
        files: Files,
        options: String,
        progress: Option<Function>,
    ) -> Result<Embedder, JsValue> {
        let model = options::load(vectile::Embedder::builder, files, &options, progress).await?;
        Ok(Embedder { model })
    }

    /// Facts about the model as JSON.
    pub fn describe(&self) -> String {
        let model = &self.model;
        json(&json!({
            "adapter": model.adapter(),
            "defaultPromptName": model.default_prompt_name(),
            "dimension": model.dimension(),
            "maxSeqLength": model.max_seq_length(),
            "memory": model.memory(),
            "notes": model.notes(),
            "precision": model.precision(),
            "precisionText": model.precision().to_string(),
            "prompts": model.prompts(),
            "similarityName": model.similarity_function().name(),
        }))
    }

    /// The model and how it runs as JSON.
    pub async fn inspect(&self) -> String {
        json(&self.model.inspect().await)
    }

    /// Rows of texts, with the options as JSON.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        options: String,
        stopped: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let (options, precision) = options::embed(&options)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut values = Vec::new();
        let take = |row: Vec<f32>| values.extend_from_slice(&row);
        let counts = encode(&self.model, &texts, &options, stopped.as_ref(), take).await?;
        let dim = values.len().checked_div(texts.len()).unwrap_or(self.model.dimension());
        let EncodeCounts { truncated, tokens, retried, halved } = counts;
        embeddings(Embeddings { dim, values, truncated, retried, halved, tokens }, precision)
    }

    /// The token ids of texts, as a list of `Uint32Array`.
    pub fn tokenize(&self, texts: Vec<String>, options: String) -> Result<JsValue, JsValue> {
        let (options, _) = options::embed(&options)?;
        let tokens = self.model.tokenize(&texts, &options).map_err(error::of)?;
        Ok(list(tokens.iter().map(|ids| js_sys::Uint32Array::from(&ids[..]).into())))
    }

    /// The similarity of each row of `a` with each row of `b`.
    pub fn similarity(&self, a: Vec<f32>, b: Vec<f32>, dim: usize) -> Result<JsValue, JsValue> {
        let (a, b) = (embeddings_of(a, dim)?, embeddings_of(b, dim)?);
        Ok(floats(&self.model.similarity(&a, &b).map_err(error::of)?.values))
    }

    /// For each query, the nearest rows of a corpus as `{ index, score }`, best first.
    pub async fn search(
        &self,
        queries: Vec<f32>,
        corpus: Vec<f32>,
        dim: usize,
        options: String,
    ) -> Result<JsValue, JsValue> {
        let search: Search = options::parse(&options)?;
        let (queries, corpus) = (embeddings_of(queries, dim)?, embeddings_of(corpus, dim)?);
        let options = SearchOptions { top_k: search.top_k, similarity: None };
        let hits = self.model.semantic_search(&queries, &corpus, &options).await;
        let hits = hits.map_err(error::of)?;
        let hit = |index: usize, score: f32| {
            object([("index", JsValue::from(index as f64)), ("score", JsValue::from(score))])
        };
        Ok(list(hits.iter().map(|hits| list(hits.iter().map(|one| hit(one.index, one.score))))))
    }
}
