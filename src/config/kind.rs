//! What a directory holds: a model for vectors, for scores or for sparse vectors.

use crate::config::modules::MODULES;
use crate::config::{JsonFile, OPTIONS};
use crate::error::Error;
use crate::files::ModelFiles;

/// What a model's files are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A vector for each text: [`Embedder`](crate::Embedder).
    Embedder,
    /// A score for each pair of texts: [`Reranker`](crate::Reranker).
    Reranker,
    /// A sparse vector for each text: [`SparseEncoder`](crate::SparseEncoder).
    Sparse,
}

impl ModelKind {
    /// What clients are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ModelKind::Embedder => "embedding",
            ModelKind::Reranker => "reranker",
            ModelKind::Sparse => "sparse",
        }
    }

    /// What the files say they are: the class of sentence-transformers that saved them, else a
    /// reranker where they are a transformer with a head for classification, else an embedder.
    ///
    /// A sparse encoder that was not saved by sentence-transformers looks like any masked language
    /// model, and is taken for an embedder.
    ///
    /// ```
    /// use vectile::{ModelFiles, server::ModelKind};
    ///
    /// let files = ModelFiles::from_directory("tests/fixtures/rerankers/bert")?;
    /// assert_eq!(ModelKind::of(&files)?, ModelKind::Reranker);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of reading `config_sentence_transformers.json` and `config.json`.
    pub fn of(files: &ModelFiles) -> Result<Self, Error> {
        if let Some(options) = JsonFile::load(files, OPTIONS)? {
            match options.str("model_type")? {
                Some("CrossEncoder") => return Ok(ModelKind::Reranker),
                Some("SparseEncoder") => return Ok(ModelKind::Sparse),
                _ => {}
            }
        }
        if files.exists(MODULES)? {
            return Ok(ModelKind::Embedder);
        }
        let Some(config) = JsonFile::load(files, "config.json")? else {
            return Ok(ModelKind::Embedder);
        };
        let architectures = config.strings("architectures")?.unwrap_or_default();
        let classifies = |name: &&str| name.ends_with("ForSequenceClassification");
        Ok(match architectures.iter().any(classifies) {
            true => ModelKind::Reranker,
            false => ModelKind::Embedder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_what_they_were_saved_as() {
        for (directory, kind) in [
            ("bert_mean_norm", ModelKind::Embedder),
            ("bert_bare", ModelKind::Embedder),
            ("families/static_model2vec", ModelKind::Embedder),
            ("rerankers/bert", ModelKind::Reranker),
            ("rerankers/bert_old", ModelKind::Reranker),
            ("rerankers/bert_bare", ModelKind::Reranker),
            ("sparse/bert", ModelKind::Sparse),
        ] {
            let files = ModelFiles::from_directory(format!("tests/fixtures/{directory}")).unwrap();
            assert_eq!(ModelKind::of(&files).unwrap(), kind, "{directory}");
        }
    }
}
