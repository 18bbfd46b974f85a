//! Turns errors of the Hub into messages that tell the user what to do.

use hf_hub::HFError;

use super::HubOptions;
use crate::error::{Error, plain};

/// The reason why a download failed.
#[derive(Debug)]
pub(super) enum DownloadFault {
    /// The Hub did not answer, or answered with a server error. A cached copy may be used.
    Silent(String),
    /// The Hub refused the request because of its rate limit. A cached copy may be used.
    Busy(String),
    /// Another failure: for example, the Hub refused the request, or a file arrived damaged.
    Other(String),
    /// The model's own files are faulty.
    Files(Error),
}

impl From<Error> for DownloadFault {
    fn from(error: Error) -> Self {
        DownloadFault::Files(error)
    }
}

/// Returns the error for a repository, with access tokens removed from its message.
pub(super) fn hub_error(repo: &str, options: &HubOptions, problem: String) -> Error {
    let mut problem = problem;
    if let Some(token) = options.token.as_deref().filter(|token| !token.is_empty()) {
        problem = problem.replace(token, "(token)");
    }
    let words = problem.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let hide = |word: &str| match word.starts_with("hf_") && word.len() >= 20 {
        true => format!(
            "(token){}",
            word.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_')
        ),
        false => word.to_owned(),
    };
    let problem: String = words.map(hide).collect();
    Error::Hub { repo: repo.to_owned(), problem: plain(problem) }
}

/// Returns a message that explains an error of the Hub's client.
pub(super) fn explain(revision: &str, error: &HFError) -> String {
    match error {
        _ if status(error) == 401 => {
            "does not exist, or is private or gated; check the name. For a private or gated model, accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN".to_string()
        }
        _ if status(error) == 403 => {
            "is gated, and this account may not download it; accept the model's terms on its page, or log in with another account (`hf auth login` or HF_TOKEN)".to_string()
        }
        _ if status(error) == 404 => {
            format!("the repository or its revision {revision} does not exist; check both names")
        }
        HFError::RateLimited { retry_after: Some(wait), .. } => {
            format!(
                "the Hub refuses further requests for now; try again in {} s, or log in with `hf auth login`",
                wait.as_secs()
            )
        }
        _ if status(error) == 429 => {
            "the Hub refuses further requests for now; wait, or log in with `hf auth login`".to_string()
        }
        HFError::Request { .. } => {
            format!("the Hub does not answer ({}); check the network and load the model again", root_cause(error))
        }
        HFError::Io(error) => format!("the Hub's cache cannot be written: {error}"),
        HFError::CacheLockTimeout { path } => {
            format!(
                "another program is downloading this model and holds the lock {}; wait until that program \
                 has finished",
                path.display()
            )
        }
        other => format!("could not be downloaded: {other}"),
    }
}

/// Returns the HTTP status that caused an error, or 0 if no status did. The request for the list of files fails with
/// `HFError::Http`. A download fails with a different variant of `HFError` for each status.
pub(super) fn status(error: &HFError) -> u16 {
    match error {
        HFError::Http { context } => context.status.as_u16(),
        HFError::AuthRequired { .. } => 401,
        HFError::Forbidden { .. } => 403,
        HFError::RepoNotFound { .. }
        | HFError::RevisionNotFound { .. }
        | HFError::EntryNotFound { .. } => 404,
        HFError::RateLimited { .. } => 429,
        _ => 0,
    }
}

/// Returns true if no server answered, or if the answer is a server error.
pub(super) fn did_not_answer(error: &HFError) -> bool {
    matches!(error, HFError::Request { .. }) || status(error) >= 500
}

/// Returns the message of an error's innermost cause, which is more specific than the message of the error itself. An
/// example is "connection refused" instead of "error sending request".
pub(super) fn root_cause(error: &HFError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
