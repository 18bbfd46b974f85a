//! [`Error`], the error type of the crate. Each variant is named after the thing that is at fault.

use std::path::PathBuf;

/// The reason why a model could not be loaded, or why a text could not be embedded.
///
/// Every variant names the place of the fault: a file, tensor, field, option, text or adapter. The message of an error
/// tells the user what to do. [`Error::is_user_error`] separates faults that a user can fix from faults of Vectile and
/// of drivers.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A file or directory is missing, unreadable, of the wrong kind or outside the model's directory.
    #[error("{}: {problem}", path.display())]
    File {
        /// The path of the file or directory.
        path: PathBuf,
        /// The fault of the file, and the remedy.
        problem: String,
    },

    /// A field of a JSON file is missing, or its value has the wrong type or is impossible.
    #[error("{file}: field `{field}`: {problem}")]
    Config {
        /// The JSON file, relative to the model's directory.
        file: String,
        /// The name of the field, with dots between the names of nested fields.
        field: String,
        /// The fault of the field, and the remedy.
        problem: String,
    },

    /// The model requests something that Vectile does not compute. Vectile returns this error and never approximates
    /// the request.
    #[error("{file}: `{field}` = {value} is not supported; {supported}")]
    Unsupported {
        /// The JSON file, relative to the model's directory.
        file: String,
        /// The field with the unsupported value.
        field: String,
        /// The value of the field.
        value: String,
        /// The values that are supported, as the last clause of the message.
        supported: String,
    },

    /// A tensor is missing, misshapen, of an unexpected dtype, or holds values that cannot be used.
    #[error("{file}: tensor `{tensor}`: {problem}")]
    Tensor {
        /// The safetensors file that holds the tensor.
        file: String,
        /// The name of the tensor, which may be missing in the file.
        tensor: String,
        /// The fault of the tensor.
        problem: String,
    },

    /// A tokenizer file cannot be used, or the tokenizer failed on a text.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file that defines the tokenizer.
        file: String,
        /// The fault of the file or of the text.
        problem: String,
    },

    /// An option that the caller set is unknown, or its value is impossible for this model.
    #[error("{option}: {problem}")]
    Option {
        /// The option, in the caller's spelling.
        option: String,
        /// The fault of the value, and what to write instead.
        problem: String,
    },

    /// A text has more tokens than the model's maximum length, and the caller does not allow truncation.
    #[error(
        "text {text} has {tokens} tokens, but the model's maximum is {limit}; shorten the text or allow truncation"
    )]
    TooLong {
        /// Index of the text in the call.
        text: usize,
        /// The length of the text in tokens, special tokens included.
        tokens: usize,
        /// The maximum length of the model, in tokens.
        limit: usize,
    },

    /// The vector of a text is infinite or not a number. Such vectors are never returned.
    #[error("text {text}: {problem}")]
    NonFinite {
        /// Index of the text in the call.
        text: usize,
        /// The fault of the vector, the precision in use, and the remedy.
        problem: String,
    },

    /// There is no suitable adapter, or the adapter lacks something that the model or an option needs.
    #[error("adapter {adapter}: {problem}")]
    Adapter {
        /// The name of the adapter, or the adapter that the caller requested.
        adapter: String,
        /// The missing capability, and the remedy.
        problem: String,
    },

    /// The adapter has no memory left for a buffer.
    #[error("adapter {adapter}: out of memory for {what} ({bytes} bytes); {advice}")]
    OutOfMemory {
        /// The name of the adapter.
        adapter: String,
        /// The buffer that did not fit.
        what: String,
        /// The size of the buffer, in bytes.
        bytes: u64,
        /// The remedy, which is the last clause of the message.
        advice: String,
    },

    /// The model needs more memory than is available or allowed. The model was not loaded.
    #[error("adapter {adapter}: {problem}")]
    TooLarge {
        /// The name of the adapter.
        adapter: String,
        /// The number of bytes that are needed to load and run the model.
        needed: u64,
        /// The number of bytes that are available or allowed.
        available: u64,
        /// The memory that the model needs, part by part, the memory that is available, and the remedy.
        problem: String,
    },

    /// The GPU device was lost (driver reset, GPU removed, watchdog) and could not be recovered.
    #[error("adapter {adapter}: the device was lost: {problem}")]
    DeviceLost {
        /// The name of the adapter.
        adapter: String,
        /// The message of the driver.
        problem: String,
    },

    /// The device computes wrong results or none at all. A kernel did not compile, a known-answer test failed, or a
    /// dispatch of a batch did not run. No row that such a device computed is returned.
    #[error("adapter {adapter}: {problem}")]
    DeviceFault {
        /// The adapter's name.
        adapter: String,
        /// The problem with the device's results, and the remedy.
        problem: String,
    },

    /// The row of a text differs from a second computation of this row, so one of the two is wrong; see
    /// [`ModelBuilder::paranoid`](crate::ModelBuilder::paranoid). No row of the text's batch is returned.
    #[error("adapter {adapter}: text {text}: {problem}")]
    WrongRow {
        /// The name of the adapter that computed the row first.
        adapter: String,
        /// The index of the text in the caller's list, or in the whole stream.
        text: usize,
        /// The largest difference between two values, relative to the length of the row of the second computation.
        distance: f64,
        /// The comparison with the second computation, and the remedy.
        problem: String,
    },

    /// A model could not be downloaded from the Hugging Face Hub.
    #[error("{repo}: {problem}")]
    Hub {
        /// The repository, as `owner/name`.
        repo: String,
        /// The cause of the failure, and the remedy.
        problem: String,
    },

    /// A fault of Vectile itself. Please report it.
    #[error("internal error (please report it): {0}")]
    Internal(String),
}

/// The end of an error message: the remedy for a device that cannot compile a kernel or computes wrong results.
pub(crate) const FAULT_ADVICE: &str = "; update the driver, or choose another adapter with `--adapter` \
                                       (`vectile adapters` lists them)";

impl Error {
    /// Returns true if the caller can fix the fault: a wrong file, field, tensor, option or text, or a missing adapter.
    /// Returns false for lost or faulty devices and for faults of Vectile itself.
    pub fn is_user_error(&self) -> bool {
        !(self.is_device_fault() || matches!(self, Error::Internal(_)))
    }

    /// Returns true if the device is at fault: it computes wrong results, or was lost.
    pub(crate) fn is_device_fault(&self) -> bool {
        matches!(
            self,
            Error::DeviceFault { .. } | Error::DeviceLost { .. } | Error::WrongRow { .. }
        )
    }

    // The text of a message may come from a hostile file, so the functions below pass it through `plain`.

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

    pub(crate) fn device_fault(adapter: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::DeviceFault { adapter: adapter.into(), problem: plain(problem) }
    }

    pub(crate) fn tokenizer(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Tokenizer { file: file.into(), problem: plain(problem) }
    }

    /// Returns the error with the index of the text whose tokenization failed. Any other error is returned unchanged.
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

/// Returns a number of bytes as text, in MiB or GiB.
pub(crate) fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib {
        0.0..1024.0 => format!("{mib:.1} MiB"),
        _ => format!("{:.2} GiB", mib / 1024.0),
    }
}

/// Returns `text`, changed so that it is safe in a message. The result is one line of at most 500 characters. Control
/// characters are escaped, because a terminal would execute them.
pub(crate) fn plain(text: impl Into<String>) -> String {
    const MAX_CHARACTERS: usize = 500;
    let text = text.into();
    if text.len() <= MAX_CHARACTERS && !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        match character {
            _ if count == MAX_CHARACTERS => {
                shown.push('…');
                break;
            }
            _ if character.is_control() => shown.extend(character.escape_debug()),
            _ => shown.push(character),
        }
    }
    shown
}
