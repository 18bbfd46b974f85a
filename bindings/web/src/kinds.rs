//! The classes `Reranker`, `SparseEncoder` and `MultiVectorEncoder`.

use js_sys::{Function, Uint32Array};
use serde_json::json;
use vectile::{EncodeCounts, MultiVector, SparseVector};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::embedder::encode;
use crate::error;
use crate::files::Files;
use crate::options;
use crate::values::{Counts, floats, json, list, object, rows};

impl From<EncodeCounts> for Counts {
    fn from(counts: EncodeCounts) -> Self {
        let EncodeCounts { truncated, tokens, retried, halved } = counts;
        Counts { truncated, retried, halved, tokens }
    }
}

/// Scores pairs of texts.
#[wasm_bindgen]
pub struct Reranker {
    model: vectile::Reranker,
}

#[wasm_bindgen]
impl Reranker {
    /// Loads a model that scores pairs of texts.
    pub async fn load(
        files: Files,
        options: String,
        progress: Option<Function>,
    ) -> Result<Reranker, JsValue> {
        let model = options::load(vectile::Reranker::builder, files, &options, progress).await?;
        Ok(Reranker { model })
    }

    /// Facts about the model as JSON.
    pub fn describe(&self) -> String {
        let model = &self.model;
        json(&json!({
            "adapter": model.adapter(),
            "labels": model.labels(),
            "maxSeqLength": model.max_seq_length(),
            "notes": model.notes(),
            "precision": model.precision(),
            "precisionText": model.precision().to_string(),
            "prompts": model.prompts(),
        }))
    }

    /// The model and how it runs as JSON.
    pub async fn inspect(&self) -> String {
        json(&self.model.inspect().await)
    }

    /// The scores of pairs. Text `i` of `first` and text `i` of `second` are a pair.
    pub async fn predict(
        &self,
        first: Vec<String>,
        second: Vec<String>,
        options: String,
        stopped: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        if first.len() != second.len() {
            let (first, second) = (first.len(), second.len());
            return Err(error::option(&format!("{first} texts cannot be paired with {second}")));
        }
        let options = options::rerank(&options)?;
        let pairs: Vec<(&str, &str)> =
            first.iter().zip(&second).map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut values = Vec::new();
        let take = |row: Vec<f32>| values.extend_from_slice(&row);
        let counts = encode(&self.model, &pairs, &options, stopped.as_ref(), take).await?;
        Ok(rows(floats(&values), self.model.labels(), counts.into()))
    }

    /// Fails for a model with several scores, because none of them is the relevance.
    #[wasm_bindgen(js_name = checkRanks)]
    pub fn check_ranks(&self) -> Result<(), JsValue> {
        self.model.check_ranks().map_err(error::of)
    }
}

/// Turns texts into weights of tokens.
#[wasm_bindgen]
pub struct SparseEncoder {
    model: vectile::SparseEncoder,
}

#[wasm_bindgen]
impl SparseEncoder {
    /// Loads a model that gives weights of tokens.
    pub async fn load(
        files: Files,
        options: String,
        progress: Option<Function>,
    ) -> Result<SparseEncoder, JsValue> {
        let builder = vectile::SparseEncoder::builder;
        let model = options::load(builder, files, &options, progress).await?;
        Ok(SparseEncoder { model })
    }

    /// Facts about the model as JSON.
    pub fn describe(&self) -> String {
        let model = &self.model;
        json(&json!({
            "adapter": model.adapter(),
            "dimension": model.dimension(),
            "maxSeqLength": model.max_seq_length(),
            "notes": model.notes(),
            "precision": model.precision(),
            "precisionText": model.precision().to_string(),
            "similarityName": model.similarity_function().name(),
        }))
    }

    /// The model and how it runs as JSON.
    pub async fn inspect(&self) -> String {
        json(&self.model.inspect().await)
    }

    /// The sparse vectors of texts.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        options: String,
        stopped: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let (options, _) = options::embed(&options)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut vectors = Vec::new();
        let take = |row: SparseVector| {
            let indices = Uint32Array::from(&row.indices[..]).into();
            vectors.push(object([("indices", indices), ("values", floats(&row.values))]));
        };
        let counts = encode(&self.model, &texts, &options, stopped.as_ref(), take).await?;
        Ok(rows(list(vectors), self.model.dimension(), counts.into()))
    }

    /// The tokens with these indices; `null` for an index that no token has.
    pub fn tokens(&self, indices: Vec<u32>) -> Vec<JsValue> {
        let name = |index: u32| self.model.token(index).map_or(JsValue::NULL, JsValue::from);
        indices.into_iter().map(name).collect()
    }

    /// The similarity of two sparse vectors.
    pub fn similarity(
        &self,
        a_indices: Vec<u32>,
        a_values: Vec<f32>,
        b_indices: Vec<u32>,
        b_values: Vec<f32>,
    ) -> f64 {
        let a = SparseVector { indices: a_indices, values: a_values };
        let b = SparseVector { indices: b_indices, values: b_values };
        self.model.similarity(&a, &b)
    }
}

/// Turns texts into vectors of their tokens.
#[wasm_bindgen]
pub struct MultiVectorEncoder {
    model: vectile::MultiVectorEncoder,
}

#[wasm_bindgen]
impl MultiVectorEncoder {
    /// Loads a model that gives a vector for each token.
    pub async fn load(
        files: Files,
        options: String,
        progress: Option<Function>,
    ) -> Result<MultiVectorEncoder, JsValue> {
        let builder = vectile::MultiVectorEncoder::builder;
        let model = options::load(builder, files, &options, progress).await?;
        Ok(MultiVectorEncoder { model })
    }

    /// Facts about the model as JSON.
    pub fn describe(&self) -> String {
        let model = &self.model;
        json(&json!({
            "adapter": model.adapter(),
            "dimension": model.dimension(),
            "notes": model.notes(),
            "precision": model.precision(),
            "precisionText": model.precision().to_string(),
            "prompts": model.prompts(),
        }))
    }

    /// The model and how it runs as JSON.
    pub async fn inspect(&self) -> String {
        json(&self.model.inspect().await)
    }

    /// The token vectors of texts: a list of `Float32Array`, each with whole vectors.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        options: String,
        stopped: Option<Function>,
    ) -> Result<JsValue, JsValue> {
        let (options, _) = options::embed(&options)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut vectors = Vec::new();
        let take = |row: MultiVector| vectors.push(floats(&row.values));
        let counts = encode(&self.model, &texts, &options, stopped.as_ref(), take).await?;
        Ok(rows(list(vectors), self.model.dimension(), counts.into()))
    }

    /// The score of a query and a document.
    pub fn similarity(&self, query: Vec<f32>, document: Vec<f32>) -> f64 {
        let dim = self.model.dimension();
        let of = |values| MultiVector { dim, values };
        self.model.similarity(&of(query), &of(document))
    }
}
