//! From the options to an embedder, and what is said about it.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use vectile::lab::tune::{TuneOptions, build_tuned};
use vectile::{
    AdapterSummary, Built, Embedder, EmbedderBuilder, ModelBuilder, ModelFiles, MultiVectorEncoder,
    Precision, Reranker, SparseEncoder, block_on,
};

use super::args::ModelArgs;
use super::failure::Failure;
use super::{progress, say};

/// Loads the model, and says on which adapter and in which precision it runs.
pub fn open(args: &ModelArgs) -> Result<Embedder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let embedder = load(Embedder::builder(files), args)?;
    if !args.quiet {
        announce(embedder.adapter(), embedder.precision(), embedder.notes());
    }
    Ok(embedder)
}

/// As [`open`], for a reranker.
pub fn open_reranker(args: &ModelArgs) -> Result<Reranker, Failure> {
    let files = find_reranker(&args.model, args.run.revision.as_deref())?;
    let reranker = load(Reranker::builder(files), args)?;
    if !args.quiet {
        announce(reranker.adapter(), reranker.precision(), reranker.notes());
    }
    Ok(reranker)
}

/// As [`open`], for a sparse encoder.
pub fn open_sparse(args: &ModelArgs) -> Result<SparseEncoder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let encoder = load(SparseEncoder::builder(files), args)?;
    if !args.quiet {
        announce(encoder.adapter(), encoder.precision(), encoder.notes());
    }
    Ok(encoder)
}

/// As [`open`], for a multi-vector encoder.
pub fn open_multi_vector(args: &ModelArgs) -> Result<MultiVectorEncoder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    let encoder = load(MultiVectorEncoder::builder(files), args)?;
    if !args.quiet {
        announce(encoder.adapter(), encoder.precision(), encoder.notes());
    }
    Ok(encoder)
}

/// The model as the options describe it, not loaded yet.
pub fn builder(args: &ModelArgs) -> Result<EmbedderBuilder, Failure> {
    let files = find(&args.model, args.run.revision.as_deref())?;
    Ok(settings(Embedder::builder(files), args))
}

pub fn settings<M: Built>(builder: ModelBuilder<M>, args: &ModelArgs) -> ModelBuilder<M> {
    let mut builder = builder
        .dtype(args.run.dtype)
        .half_fallback(args.run.half_fallback)
        .adapter(args.run.adapter.clone().unwrap_or_default())
        .disable(args.run.disable.clone());
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
    if let Some(directory) = cache_dir() {
        builder = builder.cache_dir(directory);
    }
    builder
}

/// Loads a model, and shows how far that is, where it takes a while.
fn load<M: Built>(builder: ModelBuilder<M>, args: &ModelArgs) -> Result<M, Failure> {
    let builder = settings(builder, args);
    build(if args.quiet { builder } else { builder.on_progress(progress::loading()) }, args)
}

/// Loads a model, with the forms of its matmuls timed on this adapter before, where that is asked for and was not
/// done yet.
pub fn build<M: Built>(builder: ModelBuilder<M>, args: &ModelArgs) -> Result<M, Failure> {
    if !args.tune {
        return Ok(block_on(builder.build())?);
    }
    let steps = progress::steps(!args.quiet);
    let (model, found) = block_on(build_tuned(builder, &TuneOptions::default(), steps))?;
    if let Some(path) = found.and_then(|found| found.kept)
        && !args.quiet
    {
        say(format_args!("tuned: kept in {}", path.display()));
    }
    Ok(model)
}

/// Where findings about adapters are kept.
pub fn cache_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("vectile"))
}

pub fn announce(adapter: &AdapterSummary, precision: &Precision, notes: &[String]) {
    say(format_args!("adapter: {adapter}"));
    if adapter.is_software() {
        say(format_args!(
            "note: this is a software adapter, which computes on the CPU; `vectile adapters` lists \
             the others"
        ));
    }
    say(format_args!("precision: {precision}"));
    for note in notes {
        say(format_args!("note: {note}"));
    }
}

/// The model's files: an existing directory, else a repository of the Hub.
pub fn find(model: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    find_of("sentence-transformers", model, revision)
}

/// As [`find`]; a bare name is one of the cross-encoders'.
pub fn find_reranker(model: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    find_of("cross-encoder", model, revision)
}

/// As [`find`]; a bare name is one of `owner`'s, as sentence-transformers has it.
fn find_of(owner: &str, model: &str, revision: Option<&str>) -> Result<ModelFiles, Failure> {
    let path = Path::new(model);
    if path.is_dir() {
        if revision.is_some() {
            return Err(Failure::user(format!(
                "--revision: {model} is a directory and has no revisions; leave --revision out"
            )));
        }
        return Ok(ModelFiles::from_directory(path)?);
    }
    if path.exists() {
        return Err(Failure::user(format!(
            "--model: {model} is a file; give the directory that holds the model"
        )));
    }
    match repository(owner, model) {
        Some(repo) => from_hub(model, &repo, revision),
        None => Err(Failure::user(format!(
            "--model: there is no directory {model}, and it is not a Hugging Face Hub name, which \
             is `owner/name`"
        ))),
    }
}

/// The Hub repository that `model` can name. A bare name is one of `owner`'s.
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
    ModelFiles::from_hub(repo, revision).map_err(|error| {
        let sentence = format!(
            "--model: there is no directory {model} here, and on the Hugging Face Hub: {error}"
        );
        if error.is_user_error() { Failure::User(sentence) } else { Failure::Ours(sentence) }
    })
}

#[cfg(not(feature = "hub"))]
fn from_hub(model: &str, repo: &str, _revision: Option<&str>) -> Result<ModelFiles, Failure> {
    Err(Failure::user(format!(
        "--model: there is no directory {model}, and this vectile was built without the feature \
         `hub`, so it cannot bring {repo} from the Hugging Face Hub"
    )))
}

#[cfg(test)]
mod tests {
    fn repository(model: &str) -> Option<String> {
        super::repository("sentence-transformers", model)
    }

    #[test]
    fn hub_names_are_told_from_paths() {
        let bare = repository("all-MiniLM-L6-v2");
        assert_eq!(bare.as_deref(), Some("sentence-transformers/all-MiniLM-L6-v2"));
        assert_eq!(repository("BAAI/bge-small-en-v1.5").as_deref(), Some("BAAI/bge-small-en-v1.5"));
        for path in ["", ".", "./a", "/a/b", "../a", "a/b/c", "~/a", "a b", r"C:\a", "a/", "/"] {
            assert_eq!(repository(path), None, "{path}");
        }
    }
}
