//! Downloads a model from the Hugging Face Hub into the Hub's own cache.

mod cache;
mod download;
mod error;
mod options;
mod wanted;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::{HFClient, HFError, split_id};

use crate::error::Error;
use crate::files::{ModelFiles, normalise};
use cache::{Cache, Cached};
use download::Download;
use error::{DownloadFault, explain, hub_error, root_cause};
pub use options::{DownloadProgress, HubOptions};

/// The time limit for the Hub's first answer, and for the next bytes of a download.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time limit for the Hub's first answer if the model is in the cache already.
const PATIENCE_WITH_CACHE: Duration = Duration::from_secs(3);
/// The number of times that a request is repeated after a server error.
const RETRIES: usize = 2;

impl ModelFiles {
    /// Returns the files of a model in a Hugging Face Hub repository, which is `owner/name` or `name`.
    /// Missing files are downloaded into the Hub's own cache.
    ///
    /// Only configuration, tokenizer and safetensors files are downloaded. `revision` is a branch, tag or commit;
    /// `None` means `main`. If the Hub does not answer, a cached revision is used. The environment variables of the
    /// Hub's own tools, such as `HF_HOME`, are respected; see [`HubOptions::from_env`].
    ///
    /// ```no_run
    /// let files = vectile::ModelFiles::from_hub("sentence-transformers/all-MiniLM-L6-v2", None)?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_hub(repo: &str, revision: Option<&str>) -> Result<Self, Error> {
        let revision = revision.map(str::to_owned);
        Self::from_hub_with(repo, &HubOptions { revision, ..HubOptions::from_env() })
    }

    /// Returns the same files as [`ModelFiles::from_hub`], but takes its settings from `options`.
    ///
    /// ```no_run
    /// use vectile::{HubOptions, ModelFiles};
    ///
    /// let options = HubOptions { offline: true, ..HubOptions::default() };
    /// let files = ModelFiles::from_hub_with("sentence-transformers/all-MiniLM-L6-v2", &options)?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_hub_with(repo: &str, options: &HubOptions) -> Result<Self, Error> {
        Ok(Self::from_directory(fetch(repo, options)?)?.with_label(repo))
    }
}

/// Downloads the missing files of a snapshot, and returns the snapshot's directory in the cache.
fn fetch(repo: &str, options: &HubOptions) -> Result<PathBuf, Error> {
    let revision = options.revision.as_deref().unwrap_or("main");
    check_names(repo, revision)?;
    let fail = |problem: String| hub_error(repo, options, problem);
    let client = client(options).map_err(|error| fail(explain(revision, &error)))?;
    let cache = Cache::new(client.cache_dir(), repo, revision);
    let cached = cache.find();
    if options.offline {
        return match cached {
            Cached::Complete(snapshot) => Ok(snapshot),
            Cached::Incomplete(missing) => Err(fail(format!(
                "offline mode is on, and the cached copy of revision {revision} lacks {missing}; load the model once without HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
            ))),
            Cached::Absent => Err(fail(format!(
                "offline mode is on, and revision {revision} is not in the cache {}; load the model once without HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or give a directory",
                client.cache_dir().display()
            ))),
        };
    }
    if let (Cached::Complete(snapshot), true) = (&cached, cache::is_commit(revision)) {
        // The files of a commit never change, so a cached snapshot is used without a request to the Hub.
        return Ok(snapshot.clone());
    }
    let (owner, name) = split_id(repo);
    let patience = match cached {
        Cached::Complete(_) => PATIENCE_WITH_CACHE,
        _ => PATIENCE,
    };
    let download =
        Download { repository: client.model(owner, name), cache: &cache, options, patience };
    let fault = match on_own_runtime(download.run())? {
        Ok(snapshot) => return Ok(snapshot),
        Err(fault) => fault,
    };
    match (fault, cached) {
        (
            DownloadFault::Silent(problem) | DownloadFault::Busy(problem),
            Cached::Complete(snapshot),
        ) => {
            tracing::warn!("{repo}: {problem}; using revision {revision} from the cache");
            Ok(snapshot)
        }
        (DownloadFault::Silent(problem), _) => Err(fail(format!(
            "{problem}, and revision {revision} is not in the cache; check the network (or HF_ENDPOINT), or give a directory"
        ))),
        (DownloadFault::Busy(problem) | DownloadFault::Other(problem), _) => Err(fail(problem)),
        (DownloadFault::Files(error), _) => Err(error),
    }
}

/// Runs a future to its end, on a separate thread with its own async runtime, so that the caller may itself run in an
/// async runtime.
fn on_own_runtime<T: Send>(future: impl Future<Output = T> + Send) -> Result<T, Error> {
    let internal = |problem: String| Error::Internal(format!("the download cannot run: {problem}"));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .map(|runtime| runtime.block_on(future))
                .map_err(|error| internal(error.to_string()))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn client(options: &HubOptions) -> Result<HFClient, HFError> {
    let mut builder = HFClient::builder()
        .user_agent(concat!("vectile/", env!("CARGO_PKG_VERSION")))
        .retry_max_attempts(RETRIES);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(cache) = &options.cache_dir {
        builder = builder.cache_dir(cache);
    }
    if let Some(token) = &options.token {
        builder = builder.token(token);
    }
    builder.build()
}

/// Checks the names of the repository and the revision, because they become parts of paths in the cache and of URLs.
fn check_names(repo: &str, revision: &str) -> Result<(), Error> {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=96).contains(&part.len())
            && part.chars().all(allowed)
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() > 2 || !parts.into_iter().all(part) {
        let problem = "is not a repository name; expected `owner/name`, like sentence-transformers/all-MiniLM-L6-v2";
        return Err(Error::Hub { repo: repo.escape_debug().to_string(), problem: problem.into() });
    }
    if normalise(revision).ok().as_deref() != Some(revision) {
        let problem = format!("revision {revision:?} is not a branch, tag or commit");
        return Err(Error::Hub { repo: repo.to_string(), problem });
    }
    Ok(())
}

/// Returns the message for a Hub that did not answer.
fn silence(error: Option<&HFError>, patience: Duration) -> String {
    match error {
        Some(error) => format!("the Hub does not answer ({})", root_cause(error)),
        None => format!("the Hub does not answer (no reply in {} s)", patience.as_secs()),
    }
}
