//! `vectile search`: finds the lines of a file that are most similar to queries.

mod vectors;

use std::path::Path;

use vectile::stream::Job;
use vectile::{EmbedOptions, EmbedTask, Embedder, Embeddings, SimilarityFunction, block_on};

use super::args::{LineArgs, SearchArgs};
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::message::note;
use super::model;
use super::progress::Progress;
use super::stream::{self, EmbeddedChunk, StreamContext};
use super::table::{BestLines, Found};
use super::vectors::Corpus;

pub fn run(args: &SearchArgs) -> Result<(), Failure> {
    check_stdin(args)?;
    let corpus = match args.embed_texts {
        true => Corpus::Texts(Box::new(TextSource::open(&args.input, &args.lines)?)),
        false => Corpus::open(&args.input, &args.lines, args.embedding_column.as_deref())?,
    };
    if let (Corpus::Texts(_), Some(texts)) = (&corpus, &args.texts) {
        return Err(Failure::user(format!(
            "--texts {}: {} holds no vectors, so its own texts are embedded; leave --texts out, or name the column \
             of the vectors with --embedding-column",
            texts.display(),
            args.input.display()
        )));
    }
    if let (Corpus::Vectors(source), Some(texts)) = (&corpus, &args.texts)
        && !source.counts_rows()
    {
        return Err(Failure::user(format!(
            "--texts {}: the lines of {} have fields of their own; leave --texts out, and name \
             the field of the text with --field",
            texts.display(),
            args.input.display()
        )));
    }
    let texts = queries(args)?;
    let interrupt = Interrupt::watch();
    let embedder = model::open(&args.model)?;
    let options = EmbedOptions { task: Some(EmbedTask::Query), ..args.text.options() };
    let queries = block_on(embedder.embed_with(&texts, &options))?;
    let similarity = args.similarity.unwrap_or(embedder.similarity_function());
    let search = Search { args, embedder: &embedder, queries, similarity, interrupt };
    let found = match corpus {
        Corpus::Vectors(source) => vectors::find(&search, source)?,
        Corpus::Texts(source) => search.embed_and_find(*source)?,
    };
    model::report_rechecked(&embedder, &args.model);
    Found { queries: texts, lines: found }.print(args.json)
}

/// A search, with the vectors of its queries.
struct Search<'a> {
    args: &'a SearchArgs,
    embedder: &'a Embedder,
    queries: Embeddings,
    similarity: SimilarityFunction,
    interrupt: Interrupt,
}

impl Search<'_> {
    /// Embeds every line, and returns the best lines of each query.
    fn embed_and_find(&self, source: TextSource) -> Result<Vec<BestLines>, Failure> {
        let Search { args, embedder, queries, similarity, interrupt } = self;
        let quiet = args.model.quiet;
        let options = EmbedOptions { task: Some(EmbedTask::Document), ..args.text.options() };
        if !quiet {
            note_unused_prompt(&options, embedder);
        }
        let mut best: Vec<BestLines> =
            queries.rows().map(|_| BestLines::new(args.top.get())).collect();
        let progress = Progress::new(source.total_bytes(), !quiet);
        let context = StreamContext { interrupt, progress, on_error: None, quiet };
        let job = Job::new(*embedder, options);
        let totals = stream::for_each_chunk(&job, source, context, |embedded| {
            let EmbeddedChunk { chunk, rows, .. } = embedded;
            for (i, row) in rows.iter().enumerate() {
                let Some(row) = row.as_ref().filter(|_| !chunk.text(i).trim().is_empty()) else {
                    continue;
                };
                for (query, best) in queries.rows().zip(&mut best) {
                    best.offer(similarity.score(query, row), &chunk, i);
                }
            }
            Ok(())
        })?;
        let shown = best.iter().map(BestLines::len).sum();
        totals.report(shown, embedder.max_seq_length(), quiet);
        Ok(best)
    }
}

/// Fails if more than one option reads stdin.
fn check_stdin(args: &SearchArgs) -> Result<(), Failure> {
    let inputs = [Some(&args.input), args.queries.as_ref(), args.texts.as_ref()];
    let stdin = inputs.into_iter().flatten().filter(|path| path.as_path() == Path::new("-"));
    if stdin.count() > 1 {
        let sentence = "only one of --in, --queries and --texts can be `-` (stdin); give files for \
                        the others";
        return Err(Failure::user(sentence));
    }
    Ok(())
}

/// Returns the texts to search for.
fn queries(args: &SearchArgs) -> Result<Vec<String>, Failure> {
    let Some(path) = &args.queries else { return Ok(args.query.clone()) };
    let lines = LineArgs { input_format: None, ..args.lines.clone() };
    let mut texts = TextSource::open(path, &lines)?.read_all()?;
    texts.retain(|text| !text.trim().is_empty());
    if texts.is_empty() {
        return Err(Failure::user(format!("--queries: {} has no texts", path.display())));
    }
    Ok(texts)
}

/// Prints a note if the model names its prompt for documents `passage` or `corpus`. Such a prompt is not used, because
/// sentence-transformers uses only `document` in a search.
fn note_unused_prompt(options: &EmbedOptions, embedder: &Embedder) {
    let prompts = embedder.prompts();
    let is_set = |name: &str| prompts.get(name).is_some_and(|prompt| !prompt.is_empty());
    let chosen = options.prompt.is_some() || options.prompt_name.is_some();
    if !chosen
        && !is_set("document")
        && let Some(name) = ["passage", "corpus"].into_iter().find(|name| is_set(name))
    {
        note(format_args!(
            "the searched texts get no prompt: `search` uses the prompt named `document`, as \
             sentence-transformers does, but this model names its prompt `{name}`"
        ));
    }
}
