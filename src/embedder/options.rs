//! The options with which a model is called.

use std::str::FromStr;

use crate::error::Error;

/// The treatment of a text with more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnTooLong {
    /// The text is cut to `max_seq_length`, as in sentence-transformers, and reported.
    #[default]
    Truncate,
    /// The call fails with [`Error::TooLong`], which names the text that is too long.
    Error,
}

impl FromStr for OnTooLong {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "truncate" => Ok(OnTooLong::Truncate),
            "error" => Ok(OnTooLong::Error),
            _ => {
                let problem = format!("`{name}` is unknown; use truncate or error");
                Err(Error::option("on-too-long", problem))
            }
        }
    }
}

/// The role of texts in a search: the `task` of sentence-transformers' `encode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbedTask {
    /// A search query, as for `encode_query`.
    Query,
    /// A document to be found, as for `encode_document`.
    Document,
}

impl FromStr for EmbedTask {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "query" => Ok(EmbedTask::Query),
            "document" => Ok(EmbedTask::Document),
            _ => {
                let problem = format!("`{name}` is unknown; use query or document");
                Err(Error::option("as", problem))
            }
        }
    }
}

impl EmbedTask {
    /// The names of prompts that sentence-transformers looks for, in the order in which it looks for them.
    pub(super) fn prompt_names(self) -> &'static [&'static str] {
        match self {
            EmbedTask::Query => &["query"],
            EmbedTask::Document => &["document", "passage", "corpus"],
        }
    }
}

/// Options for embedding texts. Fields have the names of the arguments of sentence-transformers' `encode`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbedOptions {
    /// The name of the model's prompt to put before each text. If neither `prompt_name` nor `prompt` is set, the
    /// model's default prompt is used, if it has one.
    pub prompt_name: Option<String>,
    /// The prompt itself, put before each text. The empty string disables the default prompt.
    pub prompt: Option<String>,
    /// The role of the texts, which selects the prompt if neither `prompt_name` nor `prompt` is set. The prompt for
    /// queries is `query`. For documents it is the first of `document`, `passage` and `corpus` that the model has.
    /// Every model has `query` and `document`, which are empty unless its files set them.
    pub task: Option<EmbedTask>,
    /// Cuts vectors to this number of dimensions, after the model's own normalization. If it is `None`, the model's
    /// own `truncate_dim` applies, if the model has one.
    pub truncate_dim: Option<usize>,
    /// Scales vectors to length one, after cutting. If the model itself normalizes its vectors, only vectors that
    /// were cut are scaled again.
    pub normalize: bool,
    /// Cuts texts to this number of tokens instead of the model's own maximum, special tokens and prompt included. It
    /// cannot exceed the positions that the model has. A multi-vector encoder, whose files set the lengths of queries and
    /// documents, refuses it. Queries that a sparse encoder looks up in a table keep their own maximum.
    pub max_seq_length: Option<usize>,
    /// The treatment of texts that are too long.
    pub on_too_long: OnTooLong,
}
