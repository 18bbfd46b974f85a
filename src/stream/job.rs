//! [`Job`], which holds a model and its options for a stream.

use crate::embedder::{Prepared, Reranker, TextModel};
use crate::error::Error;

/// A model and the options that apply to every text of a stream.
#[derive(Debug, Clone)]
pub struct Job<'a, M: TextModel> {
    pub(super) model: &'a M,
    options: M::Options,
    /// The first text of every pair, which is the query of a reranker. Models that take single texts ignore this field.
    query: &'a str,
}

impl<'a, M: for<'b> TextModel<Input<'b> = &'b str>> Job<'a, M> {
    /// Returns a job for a model that takes single texts and not pairs.
    pub fn new(model: &'a M, options: M::Options) -> Self {
        Job { model, options, query: "" }
    }
}

impl<'a> Job<'a, Reranker> {
    /// Returns a job for a reranker, which scores every text of the stream against `query`.
    pub fn rerank(
        model: &'a Reranker,
        query: &'a str,
        options: <Reranker as TextModel>::Options,
    ) -> Self {
        Job { model, options, query }
    }
}

impl<'a, M: TextModel> Job<'a, M> {
    /// Returns the loaded model that runs the texts of this job.
    pub fn model(&self) -> &'a M {
        self.model
    }

    /// Tokenizes texts. This function may be called on any thread.
    pub(super) fn prepare<'t>(
        &self,
        texts: impl Iterator<Item = &'t String>,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let inputs: Vec<M::Input<'_>> = texts.map(|text| M::input(self.query, text)).collect();
        self.model.prepare(0, &inputs, &self.options)
    }

    pub(super) fn finish(&self, text: &Prepared, row: &[f32]) -> Result<M::Row, Error> {
        self.model.finish(text, row, &self.options)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.model.row_bytes(&self.options)
    }
}
