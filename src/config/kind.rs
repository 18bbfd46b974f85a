//! Defines the four kinds of model and the settings of each kind, and detects the kind from a model's files.

use crate::config::modules::MODULES;
use crate::config::{
    COLBERT_LINEAR, JsonFile, MultiVectorConfig, OPTIONS, ProjectionKind, RerankerConfig,
    SPARSE_LINEAR, SparseConfig, Weighting, multi_vector,
};
use crate::error::Error;
use crate::files::ModelFiles;

/// The kind of a model. The kind decides which result the model returns for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// The model returns one vector for each text: [`Embedder`](crate::Embedder).
    Dense,
    /// The model returns scores for each pair of texts: [`Reranker`](crate::Reranker).
    Reranker,
    /// The model returns one sparse vector over the vocabulary for each text:
    /// [`SparseEncoder`](crate::SparseEncoder).
    Sparse,
    /// The model returns one vector for each token of a text: [`MultiVectorEncoder`](crate::MultiVectorEncoder).
    MultiVector,
}

impl ModelKind {
    /// Every kind of model, in a fixed order.
    pub const ALL: [ModelKind; 4] =
        [ModelKind::Dense, ModelKind::Reranker, ModelKind::Sparse, ModelKind::MultiVector];

    /// Returns the name that the server's responses and errors use for the kind.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Dense => "embedding",
            ModelKind::Reranker => "reranker",
            ModelKind::Sparse => "sparse",
            ModelKind::MultiVector => "multi-vector",
        }
    }

    /// Returns the kind of a model, detected from its files.
    ///
    /// If sentence-transformers or PyLate saved the files, the name of the class that saved them decides the kind.
    /// Otherwise, a transformer without `modules.json` is a reranker if it has a sequence classification head. Any
    /// other model is dense.
    ///
    /// A sparse encoder that sentence-transformers did not save is detected as dense, because its files look like those
    /// of any masked language model. bge-m3 is also detected as dense, although it can run as a dense, sparse and
    /// multi-vector model.
    ///
    /// ```
    /// use vectile::{ModelFiles, ModelKind};
    ///
    /// let files = ModelFiles::from_directory("tests/fixtures/rerankers/bert")?;
    /// assert_eq!(ModelKind::of(&files)?, ModelKind::Reranker);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if `config_sentence_transformers.json` or `config.json` cannot be read.
    pub fn of(files: &ModelFiles) -> Result<Self, Error> {
        if let Some(options) = JsonFile::load(files, OPTIONS)? {
            match options.str("model_type")? {
                Some("CrossEncoder") => return Ok(ModelKind::Reranker),
                Some("SparseEncoder") => return Ok(ModelKind::Sparse),
                _ if multi_vector::saved_so(&options)? => return Ok(ModelKind::MultiVector),
                _ => {}
            }
        }
        if multi_vector::is_stanford(files)? {
            return Ok(ModelKind::MultiVector);
        }
        if files.exists(MODULES)? {
            return Ok(ModelKind::Dense);
        }
        let Some(config) = JsonFile::load(files, "config.json")? else {
            return Ok(ModelKind::Dense);
        };
        let architectures = config.strings("architectures")?.unwrap_or_default();
        let classifies = |name: &&str| name.ends_with("ForSequenceClassification");
        Ok(match architectures.iter().any(classifies) {
            true => ModelKind::Reranker,
            false => ModelKind::Dense,
        })
    }
}

/// The settings of one kind of model. [`ModelConfig`](super::ModelConfig) holds the settings that all kinds share.
#[derive(Clone, Debug)]
pub(crate) enum KindConfig {
    /// A dense model, which has no settings besides its modules.
    Dense,
    /// The settings of a classification head, or of the answer tokens of a language model.
    Reranker(RerankerConfig),
    /// The settings for computing a sparse vector from logits or token weights.
    Sparse(SparseConfig),
    /// The settings for computing token vectors of queries and documents.
    MultiVector(MultiVectorConfig),
}

impl KindConfig {
    /// Returns the name, without extension, of the separate file with the head's linear layer. Returns `None` if the
    /// model has no such file.
    pub fn head_beside(&self) -> Option<&'static str> {
        match self {
            KindConfig::Sparse(SparseConfig { weighting: Weighting::Lexical, .. }) => {
                Some(SPARSE_LINEAR)
            }
            KindConfig::MultiVector(MultiVectorConfig {
                projection: Some(ProjectionKind::BgeM3),
                ..
            }) => Some(COLBERT_LINEAR),
            _ => None,
        }
    }

    /// Returns true if the model computes one row for each token, and false if it computes one row for each text.
    pub fn by_token(&self) -> bool {
        match self {
            KindConfig::Dense | KindConfig::Reranker(_) => false,
            KindConfig::Sparse(sparse) => sparse.weighting == Weighting::Lexical,
            KindConfig::MultiVector(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_that_of_the_class_that_saved_the_files() {
        for (directory, kind) in [
            ("bert_mean_norm", ModelKind::Dense),
            ("bert_bare", ModelKind::Dense),
            ("families/static_model2vec", ModelKind::Dense),
            ("rerankers/bert", ModelKind::Reranker),
            ("rerankers/bert_old", ModelKind::Reranker),
            ("rerankers/bert_bare", ModelKind::Reranker),
            ("sparse/bert", ModelKind::Sparse),
            ("multi_vector/bert", ModelKind::MultiVector),
            ("multi_vector/pylate_plain", ModelKind::MultiVector),
            ("multi_vector/stanford_bert", ModelKind::MultiVector),
            ("multi_vector/bge_m3", ModelKind::Dense),
        ] {
            let files = ModelFiles::from_directory(format!("tests/fixtures/{directory}")).unwrap();
            assert_eq!(ModelKind::of(&files).unwrap(), kind, "{directory}");
        }
    }
}
