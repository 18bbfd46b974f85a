//! The one error type, named by what the user can fix.

use std::path::PathBuf;

/// Why a model could not be loaded or a text not be embedded.
///
/// Every variant says where the fault is (the file, tensor, field, option, text or adapter) and, in
/// its message, what can be done about it. [`Error::is_user_error`] tells the faults a user can
/// mend from those that are Vectile's or the driver's.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A file or directory is missing, unreadable, of the wrong kind or outside the model.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or directory, as the model names it.
        path: PathBuf,
        /// The fault of the file, and the remedy.
        problem: String,
    },

    /// A field of a JSON file is missing, of the wrong type or impossible.
    #[error("{file}: field `{field}`: {problem}")]
    Config {
        /// The JSON file, relative to the model's directory.
        file: String,
        /// The field, with dots for nesting.
        field: String,
        /// The fault of its value.
        problem: String,
    },

    /// The model asks for something Vectile does not compute. Nothing is approximated.
    #[error("{file}: `{field}` = {value} is not supported; {supported}")]
    Unsupported {
        /// The JSON file, relative to the model's directory.
        file: String,
        /// The field that asks for it.
        field: String,
        /// The value found there.
        value: String,
        /// The values that are supported instead.
        supported: String,
    },

    /// A tensor is missing, misshapen, of an unexpected dtype, or holds values that cannot be used.
    #[error("{file}: tensor `{tensor}`: {problem}")]
    Tensor {
        /// The safetensors file.
        file: String,
        /// The tensor's name in that file, or the name looked for.
        tensor: String,
        /// The fault of the tensor.
        problem: String,
    },

    /// `tokenizer.json` cannot be used, or tokenizing a text failed inside it.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The tokenizer's file.
        file: String,
        /// The fault of the file or of the text.
        problem: String,
    },

    /// An option given by the caller is unknown or impossible for this model.
    #[error("{option}: {problem}")]
    Option {
        /// The option, as the caller writes it.
        option: String,
        /// The fault of the value, and what to write instead.
        problem: String,
    },

    /// A text has more tokens than the model takes, and truncation was refused.
    #[error(
        "text {text} has {tokens} tokens and the model takes {limit}; shorten it or allow truncation"
    )]
    TooLong {
        /// Index of the text in the call.
        text: usize,
        /// Its length in tokens, special tokens included.
        tokens: usize,
        /// The model's `max_seq_length`.
        limit: usize,
    },

    /// The vectors of a text came out infinite or not a number. They are never returned.
    #[error("text {text}: {problem}")]
    NonFinite {
        /// Index of the text in the call.
        text: usize,
        /// The precision in use and what to try.
        problem: String,
    },

    /// No adapter fits, or the adapter cannot do what the model or an option needs.
    #[error("adapter {adapter}: {problem}")]
    Adapter {
        /// The adapter's name, or what was asked for.
        adapter: String,
        /// The missing capability, and the remedy.
        problem: String,
    },

    /// The adapter has no memory left for a buffer.
    #[error("adapter {adapter}: out of memory for {what} ({bytes} bytes); {advice}")]
    OutOfMemory {
        /// The adapter's name.
        adapter: String,
        /// The buffer that did not fit.
        what: String,
        /// Its size.
        bytes: u64,
        /// The remedy, as a clause of the sentence.
        advice: String,
    },

    /// The model takes more memory than there is, or than it may take. It was not loaded.
    #[error("adapter {adapter}: {problem}")]
    TooLarge {
        /// The adapter's name.
        adapter: String,
        /// Bytes that loading and running the model takes.
        needed: u64,
        /// Bytes that there are.
        available: u64,
        /// Both numbers, what they are made of, and what to do.
        problem: String,
    },

    /// The GPU device was lost (driver reset, GPU removed, watchdog) and could not be won back.
    #[error("adapter {adapter}: the device was lost: {problem}")]
    DeviceLost {
        /// The adapter's name.
        adapter: String,
        /// The message of the driver.
        problem: String,
    },

    /// A model could not be brought from the Hugging Face Hub.
    #[error("{repo}: {problem}")]
    Hub {
        /// The repository.
        repo: String,
        /// The cause of the failure, and the remedy.
        problem: String,
    },

    /// A fault of Vectile's own. Please report it.
    #[error("internal error (please report it): {0}")]
    Internal(String),
}

impl Error {
    /// True where the caller can mend the fault: a wrong file, field, tensor, option or text, or an
    /// adapter that is not there. False for lost devices and faults of Vectile's own.
    pub fn is_user_error(&self) -> bool {
        !matches!(self, Error::DeviceLost { .. } | Error::Internal(_))
    }

    // What stands in a message may come from a hostile file: see `plain`.

    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Error::File { path: path.into(), problem: plain(problem) }
    }

    pub(crate) fn config(
        file: impl Into<String>,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Error::Config { file: file.into(), field: plain(field), problem: plain(problem) }
    }

    pub(crate) fn unsupported(
        file: impl Into<String>,
        field: impl Into<String>,
        value: impl ToString,
        supported: impl Into<String>,
    ) -> Self {
        Error::Unsupported {
            file: file.into(),
            field: plain(field),
            value: plain(value.to_string()),
            supported: supported.into(),
        }
    }

    pub(crate) fn tensor(
        file: impl Into<String>,
        tensor: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Error::Tensor { file: file.into(), tensor: plain(tensor), problem: plain(problem) }
    }

    pub(crate) fn option(option: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Option { option: option.into(), problem: plain(problem) }
    }

    pub(crate) fn adapter(adapter: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Adapter { adapter: adapter.into(), problem: plain(problem) }
    }

    pub(crate) fn tokenizer(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Tokenizer { file: file.into(), problem: plain(problem) }
    }

    /// Adds the index of the text whose tokenization failed.
    pub(crate) fn of_text(self, text: usize) -> Self {
        match self {
            Error::Tokenizer { file, problem } => {
                let problem = match problem.strip_prefix("the text ") {
                    Some(rest) => format!("text {text} {rest}"),
                    None => format!("text {text}: {problem}"),
                };
                Error::Tokenizer { file, problem }
            }
            other => other,
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib {
        0.0..1024.0 => format!("{mib:.1} MiB"),
        _ => format!("{:.2} GiB", mib / 1024.0),
    }
}

/// Text on one line, without control characters (a terminal obeys them) and not endless.
pub(crate) fn plain(text: impl Into<String>) -> String {
    const MOST: usize = 500;
    let text = text.into();
    if text.len() <= MOST && !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        match character {
            _ if count == MOST => {
                shown.push('…');
                break;
            }
            _ if character.is_control() => shown.extend(character.escape_debug()),
            _ => shown.push(character),
        }
    }
    shown
}
