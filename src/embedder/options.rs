//! The options of a call that embeds texts.

use std::str::FromStr;

use crate::error::Error;

/// The treatment of a text with more tokens than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnTooLong {
    /// The text is truncated to `max_seq_length`, as in sentence-transformers, and the result lists its index.
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
                let problem =
                    format!("`{name}` is not a treatment of long texts; use `truncate` or `error`");
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
    /// A document that a search can find, as for `encode_document`.
    Document,
}

impl FromStr for EmbedTask {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "query" => Ok(EmbedTask::Query),
            "document" => Ok(EmbedTask::Document),
            _ => {
                let problem = format!("`{name}` is not a role of texts; use `query` or `document`");
                Err(Error::option("as", problem))
            }
        }
    }
}

impl EmbedTask {
    /// Returns the names of the prompts for this task. The first of these prompts that a model has is used, as in
    /// sentence-transformers.
    pub(super) fn prompt_names(self) -> &'static [&'static str] {
        match self {
            EmbedTask::Query => &["query"],
            EmbedTask::Document => &["document", "passage", "corpus"],
        }
    }
}

/// Options for embedding texts. Each field has the name of the matching argument of sentence-transformers' `encode`, if
/// there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbedOptions {
    /// The name of the model's prompt to put before each text. If neither `prompt_name` nor `prompt` is set, the
    /// model's default prompt is used, if it has one.
    pub prompt_name: Option<String>,
    /// The prompt itself, put before each text. The empty string disables the default prompt.
    pub prompt: Option<String>,
    /// The role of the texts, which selects the prompt if neither `prompt_name` nor `prompt` is set. The prompt for
    /// queries is `query`. For documents it is the first of `document`, `passage` and `corpus` that the model has.
    /// Every model has prompts named `query` and `document`, which are empty unless the model's files set them.
    pub task: Option<EmbedTask>,
    /// Truncates vectors to this number of values, after the model's own normalization. If the option is `None`, the
    /// `truncate_dim` of the model's files applies, if they set one.
    pub truncate_dim: Option<usize>,
    /// Scales vectors to length one, after truncation. If the model itself normalizes its vectors, a vector is scaled
    /// again only if it was truncated.
    pub normalize: bool,
    /// Truncates texts to this number of tokens instead of the model's own maximum, special tokens and prompt included.
    /// The number cannot exceed the number of positions that the model has. A multi-vector encoder refuses this option,
    /// because its files set one maximum length for queries and another for documents. If a sparse encoder looks up
    /// queries in a table, the table's own maximum applies to queries.
    pub max_seq_length: Option<usize>,
    /// The treatment of texts that are too long.
    pub on_too_long: OnTooLong,
}
