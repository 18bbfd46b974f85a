//! Loads the model that the options describe, and reports how it runs.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use vectile::lab::tune::{TuneOptions, build_tuned};
use vectile::{
    AdapterSummary, Embedder, EmbedderBuilder, ModelBuilder, ModelFiles, MultiVectorEncoder,
    Precision, Reranker, SparseEncoder, TextModel, block_on,
};

use super::args::ModelArgs;
use super::failure::Failure;
use super::message::{note, say};
use super::progress;

/// Loads an embedder, and reports its adapter and precision.
pub fn open(args: &ModelArgs) -> Result<Embedder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let embedder = load(Embedder::builder(files), args)?;
    if !args.quiet {
        announce(embedder.adapter(), embedder.precision(), embedder.notes());
    }
    Ok(embedder)
}

/// Loads a reranker, like [`open`].
pub fn open_reranker(args: &ModelArgs) -> Result<Reranker, Failure> {
    let files = find_reranker(&args.model, args.run.revision.as_deref())?;
    let reranker = load(Reranker::builder(files), args)?;
    if !args.quiet {
        announce(reranker.adapter(), reranker.precision(), reranker.notes());
    }
    Ok(reranker)
}

/// Loads a sparse encoder, like [`open`].
pub fn open_sparse(args: &ModelArgs) -> Result<SparseEncoder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let encoder = load(SparseEncoder::builder(files), args)?;
    if !args.quiet {
        announce(encoder.adapter(), encoder.precision(), encoder.notes());
    }
    Ok(encoder)
}

/// Loads a multi-vector encoder, like [`open`].
pub fn open_multi_vector(args: &ModelArgs) -> Result<MultiVectorEncoder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let encoder = load(MultiVectorEncoder::builder(files), args)?;
    if !args.quiet {
        announce(encoder.adapter(), encoder.precision(), encoder.notes());
    }
    Ok(encoder)
}

/// Returns a builder for the embedder that the options describe.
pub fn builder(args: &ModelArgs) -> Result<EmbedderBuilder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    Ok(settings(Embedder::builder(files), args))
}

/// Applies the options to a builder.
pub fn settings<M: TextModel>(builder: ModelBuilder<M>, args: &ModelArgs) -> ModelBuilder<M> {
    let mut builder = builder
        .dtype(args.run.dtype)
        .half_fallback(args.run.half_fallback)
        .adapter(args.run.adapter.clone().unwrap_or_default())
        .disable(args.run.disable.clone());
    if let Some(threads) = args.run.threads {
        builder = builder.threads(threads.get());
    }
    if let Some(version) = args.run.transformers_version {
        builder = builder.transformers_version(version);
    }
    if let Some(task) = &args.lora_task {
        builder = builder.lora_task(task);
    }
    if let Some(activations) = args.run.activations {
        builder = builder.activations(activations);
    }
    if let Some(tokens) = args.batch_tokens {
        builder = builder.batch_tokens(tokens.get());
    }
    if let Some(size) = args.run.max_memory {
        builder = builder.max_memory(size.as_u64());
    }
    if let Some(every) = args.paranoid {
        builder = builder.paranoid(every);
    }
    if let Some(directory) = cache_dir() {
        builder = builder.cache_dir(directory);
    }
    builder
}

/// Loads a model. If loading takes a while, a progress bar is shown.
fn load<M: TextModel>(builder: ModelBuilder<M>, args: &ModelArgs) -> Result<M, Failure> {
    let builder = settings(builder, args);
    build(if args.quiet { builder } else { builder.on_progress(progress::loading()) }, args)
}

/// Loads a model. With `--tune`, first times the variants of the model's matmuls, unless an earlier run has timed these
/// variants on this adapter.
pub fn build<M: TextModel>(builder: ModelBuilder<M>, args: &ModelArgs) -> Result<M, Failure> {
    if !args.tune {
        return Ok(block_on(builder.build())?);
    }
    let steps = progress::steps(!args.quiet);
    let (model, found) = block_on(build_tuned(builder, &TuneOptions::default(), steps))?;
    if let Some(path) = found.and_then(|found| found.kept)
        && !args.quiet
    {
        say(format_args!("the model is tuned: the results are cached in {}", path.display()));
    }
    Ok(model)
}

/// Returns the directory for cached results, such as self-tests and tuning.
pub fn cache_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("vectile"))
}

/// Prints the adapter, the precision and the notes of a loaded model on stderr.
pub fn announce(adapter: &AdapterSummary, precision: &Precision, notes: &[String]) {
    say(format_args!("adapter: {adapter}"));
    if adapter.is_software() && !adapter.is_cpu() {
        note(format_args!(
            "this is a software adapter, which computes on the CPU; `vectile adapters` lists all \
             adapters"
        ));
    }
    say(format_args!("precision: {precision}"));
    for remark in notes {
        note(format_args!("{remark}"));
    }
}

/// Reports on stderr how many rows of a model were computed a second time, if `--paranoid` was given.
pub fn report_rechecked(model: &impl TextModel, args: &ModelArgs) {
    if let Some(found) = model.rechecked().filter(|_| !args.quiet) {
        say(format_args!("paranoid: {found}"));
    }
}

/// Returns the files of a model. `model` is an existing directory or the name of a Hub repository. A repository without
/// an owner belongs to `sentence-transformers`.
pub fn find(model: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    find_with_owner("sentence-transformers", model, revision)
}

/// Returns the files of a reranker, like [`find`], but a repository without an owner belongs to `cross-encoder`.
pub fn find_reranker(model: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    find_with_owner("cross-encoder", model, revision)
}

/// Returns the files of a model, like [`find`], but a repository without an owner belongs to `owner`.
fn find_with_owner(
    owner: &str,
    model: &str,
    revision: Option<&str>,
) -> Result<ModelFiles, Failure> {
    let path = Path::new(model);
    if path.is_dir() {
        if revision.is_some() {
            return Err(Failure::user(format!(
                "--revision: {model} is a directory, which has no revisions; leave --revision out"
            )));
        }
        return Ok(ModelFiles::from_directory(path)?);
    }
    if path.exists() {
        return Err(Failure::user(format!(
            "--model: {model} is a file; give the directory of the model"
        )));
    }
    match repository(owner, model) {
        Some(repo) => from_hub(model, &repo, revision),
        None => Err(Failure::user(format!(
            "--model: there is no directory {model}, and it is not a Hugging Face Hub name, which has the \
             form `owner/name`"
        ))),
    }
}

/// Returns `model` as `owner/name`, or `None` if `model` is not a Hub name. A name without an owner gets `owner`.
fn repository(owner: &str, model: &str) -> Option<String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match model.split_once('/') {
        Some((named, name)) => (part(named) && part(name)).then(|| model.to_owned()),
        None => part(model).then(|| format!("{owner}/{model}")),
    }
}

#[cfg(feature = "hub")]
fn from_hub(model: &str, repo: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    let options = vectile::HubOptions {
        revision: revision.map(str::to_owned),
        on_progress: Some(std::sync::Arc::new(progress::downloading())),
        ..vectile::HubOptions::from_env()
    };
    ModelFiles::from_hub_with(repo, &options).map_err(|error| {
        let sentence = format!(
            "--model: there is no directory {model}, and loading it from the Hugging Face Hub failed: {error}"
        );
        if error.is_user_error() { Failure::User(sentence) } else { Failure::Internal(sentence) }
    })
}

#[cfg(not(feature = "hub"))]
fn from_hub(model: &str, repo: &str, _revision: Option<&str>) -> Result<ModelFiles, Failure> {
    Err(Failure::user(format!(
        "--model: there is no directory {model}, and this vectile was built without the feature `hub`, so \
         it cannot download {repo} from the Hugging Face Hub"
    )))
}

#[cfg(test)]
mod tests {
    fn repository(model: &str) -> Option<String> {
        super::repository("sentence-transformers", model)
    }

    #[test]
    fn hub_names_are_distinguished_from_paths() {
        let bare = repository("all-MiniLM-L6-v2");
        assert_eq!(bare.as_deref(), Some("sentence-transformers/all-MiniLM-L6-v2"));
        assert_eq!(repository("BAAI/bge-small-en-v1.5").as_deref(), Some("BAAI/bge-small-en-v1.5"));
        for path in ["", ".", "./a", "/a/b", "../a", "a/b/c", "~/a", "a b", r"C:\a", "a/", "/"] {
            assert_eq!(repository(path), None, "{path}");
        }
    }
}
