//! `vectile search`: the lines of a file that are most similar to a query.

use vectile::stream::Job;
use vectile::{EmbedOptions, EmbedTask, Embedder, block_on};

use super::args::{OnError, SearchArgs};
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::message::note;
use super::model;
use super::progress::Progress;
use super::stream::{self, EmbeddedChunk, StreamContext};
use super::table::BestLines;

pub fn run(args: &SearchArgs) -> Result<(), Failure> {
    let source = TextSource::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
    let embedder = model::open(&args.model)?;
    let quiet = args.model.quiet;
    let options_for = |task| EmbedOptions { task: Some(task), ..args.text.options() };
    let query = block_on(embedder.embed_with(&[&args.query], &options_for(EmbedTask::Query)))?;
    let document_options = options_for(EmbedTask::Document);
    if !quiet {
        note_unused_prompt(&document_options, &embedder);
    }
    let similarity = args.similarity.unwrap_or(embedder.similarity_function());
    let mut best = BestLines::new(args.top.get());
    let progress = Progress::new(source.total_bytes(), !quiet);
    let context = StreamContext { interrupt: &interrupt, progress, on_error: OnError::Fail, quiet };
    let job = Job::new(&embedder, document_options);
    let totals = stream::for_each_chunk(&job, source, context, |embedded| {
        let EmbeddedChunk { chunk, rows, .. } = embedded;
        for (i, row) in rows.iter().enumerate() {
            if let Some(row) = row
                && !chunk.text(i).trim().is_empty()
            {
                best.offer(similarity.score(query.row(0), row), &chunk, i);
            }
        }
        Ok(())
    })?;
    totals.report(best.len(), embedder.max_seq_length(), quiet);
    best.print()
}

/// Prints a note if the model has a prompt for documents under a name that sentence-transformers does not use.
fn note_unused_prompt(options: &EmbedOptions, embedder: &Embedder) {
    let prompts = embedder.prompts();
    let is_set = |name: &str| prompts.get(name).is_some_and(|prompt| !prompt.is_empty());
    let chosen = options.prompt.is_some() || options.prompt_name.is_some();
    if !chosen
        && !is_set("document")
        && let Some(name) = ["passage", "corpus"].into_iter().find(|name| is_set(name))
    {
        note(format_args!(
            "the lines get no prompt: like sentence-transformers, `search` takes the prompt named \
             `document`, and this model has one named `{name}` instead"
        ));
    }
}
