//! Bringing a model from the Hugging Face Hub into the Hub's own cache.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeModel, split_id};

use crate::config::{COLBERT_LINEAR, SPARSE_LINEAR, module_paths};
use crate::error::Error;
use crate::files::{ModelFiles, normalise};

/// The Hub's first answer takes a second; after this long the cache is used instead.
const PATIENCE: Duration = Duration::from_secs(30);
/// A request is repeated this often when the Hub stumbles.
const RETRIES: usize = 2;

/// Files beside `config.json` that say how the model embeds.
const SMALL: [&str; 11] = [
    "router_config.json",
    "artifact.metadata",
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "adapter_config.json",
    "model.safetensors.index.json",
];

/// Where the Hub and its cache are. What is not set is for the Hub's own client to decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubOptions {
    pub endpoint: Option<String>,
    pub cache: Option<PathBuf>,
}

impl ModelFiles {
    /// Returns the model of a Hugging Face Hub repository, `owner/name` or `name`, downloading what
    /// is missing into the Hub's own cache.
    ///
    /// Only configuration, tokenizer and safetensors files are fetched. `revision` is a branch, tag
    /// or commit; `None` is `main`. When the network does not answer, a revision that is in the
    /// cache is used as it is. Cache directory, endpoint and access token are those of the Hub's own
    /// tools (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`).
    ///
    /// ```no_run
    /// let files = vectile::ModelFiles::from_hub("sentence-transformers/all-MiniLM-L6-v2", None)?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_hub(repo: &str, revision: Option<&str>) -> Result<Self, Error> {
        let snapshot = fetch(repo, revision, &HubOptions::default())?;
        Ok(Self::from_directory(snapshot)?.with_label(repo))
    }
}

/// A file of the repository and its size.
type Listing = Vec<(String, u64)>;

/// The snapshot's directory in the cache, with every file the model needs.
pub(crate) fn fetch(
    repo: &str,
    revision: Option<&str>,
    options: &HubOptions,
) -> Result<PathBuf, Error> {
    let revision = revision.unwrap_or("main");
    check_names(repo, revision)?;
    let client = client(options).map_err(|error| explain(repo, revision, &error))?;
    let (owner, name) = split_id(repo);
    let hub = Hub { repository: client.model(owner, name), repo, revision };
    match hub.list() {
        Ok(listing) => hub.download(&listing),
        Err(error) => hub.use_cache(error),
    }
}

struct Hub<'a> {
    repository: HFRepositorySync<RepoTypeModel>,
    repo: &'a str,
    revision: &'a str,
}

impl Hub<'_> {
    /// `None` in the error: the Hub did not answer in time.
    fn list(&self) -> Result<Listing, Option<HFError>> {
        let (answer, listing) = mpsc::channel();
        let repository = self.repository.clone();
        let revision = self.revision.to_string();
        // The client has no timeouts; a thread that waits for ever is left behind, asleep.
        std::thread::spawn(move || {
            let tree = repository.list_tree().revision(revision).recursive(true).send();
            let _ = answer.send(tree);
        });
        let tree = listing.recv_timeout(PATIENCE).map_err(|_| None)?.map_err(Some)?;
        let file = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some((path, size)),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(tree.into_iter().filter_map(file).filter(|(path, _)| is_plain(path)).collect())
    }

    fn download(&self, listing: &Listing) -> Result<PathBuf, Error> {
        let names: Vec<&str> = listing.iter().map(|(name, _)| name.as_str()).collect();
        let first = self.snapshot(settings_of(&names, ""))?;
        let files = ModelFiles::from_directory(&first)?;
        let mut wanted = settings_of(&names, "");
        for path in module_paths(&files)? {
            wanted.extend(settings_of(&names, &path));
            wanted.extend(weights_of(&names, &path));
        }
        let snapshot = self.snapshot(wanted.clone())?;
        if snapshot != first {
            return Err(self.error("changed while it was downloaded; load it again"));
        }
        for name in &wanted {
            let expected = listing.iter().find(|(listed, _)| listed == name).map(|(_, size)| *size);
            let found = std::fs::metadata(snapshot.join(name)).map(|metadata| metadata.len()).ok();
            if expected != found {
                let path = snapshot.join(name);
                let real = path.canonicalize().unwrap_or(path);
                let problem = format!(
                    "{name} did not arrive whole; delete {} and load the model again",
                    real.display()
                );
                return Err(self.error(problem));
            }
        }
        Ok(snapshot)
    }

    fn snapshot(&self, wanted: Vec<String>) -> Result<PathBuf, Error> {
        let download = self.repository.snapshot_download().revision(self.revision);
        let snapshot = download.allow_patterns(wanted).send();
        snapshot.map_err(|error| explain(self.repo, self.revision, &error))
    }

    /// What the cache has of this revision, if the Hub could not be asked.
    fn use_cache(&self, error: Option<HFError>) -> Result<PathBuf, Error> {
        let silent = error.as_ref().is_none_or(did_not_answer);
        let problem = match &error {
            Some(error) if !silent => return Err(explain(self.repo, self.revision, error)),
            Some(error) => format!("the Hub does not answer ({})", root_cause(error)),
            None => format!("the Hub does not answer (no reply in {} s)", PATIENCE.as_secs()),
        };
        let cached = self.repository.snapshot_download().revision(self.revision);
        match cached.local_files_only(true).send() {
            Ok(snapshot) => {
                tracing::warn!("{}: {problem}; using revision {} from the cache", self.repo, self.revision);
                Ok(snapshot)
            }
            Err(_) => Err(self.error(format!(
                "{problem}, and revision {} is not in the cache; check the network (or HF_ENDPOINT), or give a directory",
                self.revision
            ))),
        }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Hub { repo: self.repo.to_string(), problem: problem.into() }
    }
}

fn client(options: &HubOptions) -> Result<HFClientSync, HFError> {
    let mut builder = HFClient::builder()
        .user_agent(concat!("vectile/", env!("CARGO_PKG_VERSION")))
        .retry_max_attempts(RETRIES);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(cache) = &options.cache {
        builder = builder.cache_dir(cache);
    }
    builder.build_sync()
}

/// Both become parts of paths in the cache and of URLs.
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
        let problem = "is no repository name; it is `owner/name`, like sentence-transformers/all-MiniLM-L6-v2";
        return Err(Error::Hub { repo: repo.escape_debug().to_string(), problem: problem.into() });
    }
    if normalise(revision).ok().as_deref() != Some(revision) {
        let problem = format!("revision {revision:?} is no branch, tag or commit");
        return Err(Error::Hub { repo: repo.to_string(), problem });
    }
    Ok(())
}

/// A name that belongs in a model and that means only itself as a pattern.
fn is_plain(path: &str) -> bool {
    normalise(path).ok().as_deref() == Some(path) && !path.contains(['*', '?', '[', ']', '{', '}'])
}

/// The settings in a module's directory (empty: the model's own).
fn settings_of(names: &[&str], directory: &str) -> Vec<String> {
    let wanted = |name: &&&str| {
        let inside = in_directory(name, directory);
        inside.is_some_and(|file| {
            SMALL.contains(&file)
                || (file.starts_with("sentence_") && file.ends_with("_config.json"))
        })
    };
    names.iter().filter(wanted).map(|name| name.to_string()).collect()
}

/// One file where there is one, else the shards of the index; and the heads beside them.
fn weights_of(names: &[&str], directory: &str) -> Vec<String> {
    let inside =
        |name: &&&str, test: &dyn Fn(&str) -> bool| in_directory(name, directory).is_some_and(test);
    let whole = names.iter().filter(|name| inside(name, &|file| file == "model.safetensors"));
    let mut wanted: Vec<&&str> = whole.collect();
    if wanted.is_empty() {
        let shard = |file: &str| file.starts_with("model-") && file.ends_with(".safetensors");
        wanted.extend(names.iter().filter(|name| inside(name, &shard)));
    }
    let head = |file: &str| {
        let name = file.strip_suffix(".safetensors");
        name.is_some_and(|name| [COLBERT_LINEAR, SPARSE_LINEAR].contains(&name))
    };
    wanted.extend(names.iter().filter(|name| inside(name, &head)));
    wanted.into_iter().map(|name| name.to_string()).collect()
}

fn in_directory<'a>(name: &'a str, directory: &str) -> Option<&'a str> {
    let file = match directory {
        "" => name,
        directory => name.strip_prefix(directory)?.strip_prefix('/')?,
    };
    (!file.contains('/')).then_some(file)
}

fn explain(repo: &str, revision: &str, error: &HFError) -> Error {
    let problem = match error {
        _ if matches!(status(error), 401 | 403) => {
            "is private, gated or does not exist; check the name, accept the model's terms on its page, then log in with `hf auth login` or set HF_TOKEN".to_string()
        }
        _ if status(error) == 404 => {
            format!("the repository or its revision {revision} does not exist; check both names")
        }
        _ if status(error) == 429 => {
            "the Hub refuses further requests for now; wait, or log in with `hf auth login`".to_string()
        }
        HFError::Request { .. } => format!("the Hub does not answer ({}); check the network and load the model again", root_cause(error)),
        HFError::Io(error) => format!("the Hub's cache cannot be written: {error}"),
        HFError::CacheLockTimeout { path } => {
            format!("another program is downloading it ({}); wait for it", path.display())
        }
        other => format!("could not be downloaded: {other}"),
    };
    Error::Hub { repo: repo.to_string(), problem }
}

/// The HTTP status behind an error, 0 for none. Listings come back as plain HTTP errors, downloads
/// as the variants named for them.
fn status(error: &HFError) -> u16 {
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

/// No answer, or the answer of a server in trouble.
fn did_not_answer(error: &HFError) -> bool {
    matches!(error, HFError::Request { .. }) || status(error) >= 500
}

/// The innermost cause: "connection refused" rather than "error sending request".
fn root_cause(error: &HFError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
