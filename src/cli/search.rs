//! `vectile search`: the lines of a file that are nearest to a query.

use vectile::stream::Dense;
use vectile::{EmbedOptions, EmbedTask, Embedder, block_on};

use super::args::{OnError, SearchArgs};
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::say;
use super::similarity::cosine;
use super::stream::{self, Run, Taken};
use super::table::Best;

pub fn run(args: &SearchArgs) -> Result<(), Failure> {
    let source = Source::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
    let embedder = model::open(&args.model)?;
    let quiet = args.model.quiet;
    let side = |task| EmbedOptions { task: Some(task), ..args.text.options() };
    let query = block_on(embedder.embed_with(&[&args.query], &side(EmbedTask::Query)))?;
    let passages = side(EmbedTask::Document);
    if !quiet {
        warn_of_unused_prompt(&passages, &embedder);
    }
    let mut best = Best::new(args.top.get());
    let progress = Progress::new(source.total_bytes(), !quiet);
    let run = Run { interrupt: &interrupt, progress, on_error: OnError::Fail, quiet };
    let model = Dense { embedder: &embedder, options: passages };
    let totals = stream::each_window(&model, source, run, |Taken { chunk, rows, .. }| {
        for (i, row) in rows.iter().enumerate() {
            if let Some(row) = row
                && !chunk.text(i).trim().is_empty()
            {
                best.offer(cosine(query.row(0), row), &chunk, i);
            }
        }
        Ok(())
    })?;
    totals.report(embedder.max_seq_length(), quiet);
    best.print()
}

fn warn_of_unused_prompt(passages: &EmbedOptions, embedder: &Embedder) {
    let prompts = embedder.prompts();
    let filled = |name: &str| prompts.get(name).is_some_and(|prompt| !prompt.is_empty());
    let named = passages.prompt.is_some() || passages.prompt_name.is_some();
    if !named
        && !filled("document")
        && let Some(name) = ["passage", "corpus"].into_iter().find(|name| filled(name))
    {
        say(format_args!(
            "note: the lines get no prompt, as in sentence-transformers, which takes the one named \
             `document`; the model's prompt `{name}` is not used"
        ));
    }
}
