//! `vectile rerank`: the lines of a file by their relevance to a query.

use vectile::{EmbedOptions, EmbedTask, RerankOptions, block_on};

use super::args::RerankArgs;
use super::failure::Failure;
use super::input::{Chunk, Source};
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stream::{self, Totals};
use super::table::Best;

pub fn run(args: &RerankArgs) -> Result<(), Failure> {
    let source = Source::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
    let best = Best::new(args.top.map_or(usize::MAX, |top| top.get()));
    let lines = Lines { args, source, interrupt, best };
    if args.multi_vector { by_token_vectors(lines) } else { by_pairs(lines) }
}

/// The lines and the best of them.
struct Lines<'a> {
    args: &'a RerankArgs,
    source: Source,
    interrupt: Interrupt,
    best: Best,
}

/// A line and the query in one pass.
fn by_pairs(mut lines: Lines) -> Result<(), Failure> {
    let args = lines.args;
    let reranker = model::open_reranker(&args.model)?;
    reranker.check_ranks()?;
    let options = RerankOptions {
        prompt_name: args.prompt_name.clone(),
        prompt: args.prompt.clone(),
        on_too_long: args.on_too_long,
    };
    let score = |lines: &[String]| {
        let pairs: Vec<(&str, &str)> =
            lines.iter().map(|line| (args.query.as_str(), line.as_str())).collect();
        block_on(reranker.predict_with(&pairs, &options))
    };
    let progress = lines.progress();
    let Lines { source, interrupt, best, .. } = &mut lines;
    let totals = stream::each_run(score, source, interrupt, progress, |chunk, scores| {
        offer(best, chunk, scores.values.iter().map(|score| f64::from(*score)));
        Ok(())
    })?;
    lines.print(totals, reranker.max_seq_length())
}

/// The token vectors of the query and of each line, by late interaction.
fn by_token_vectors(mut lines: Lines) -> Result<(), Failure> {
    let args = lines.args;
    let encoder = model::open_multi_vector(&args.model)?;
    let side = |task| EmbedOptions {
        task: Some(task),
        on_too_long: args.on_too_long,
        ..EmbedOptions::default()
    };
    let of_query = EmbedOptions {
        prompt_name: args.prompt_name.clone(),
        prompt: args.prompt.clone(),
        ..side(EmbedTask::Query)
    };
    let queries = block_on(encoder.encode_with(&[&args.query], &of_query))?.vectors;
    let of_line = side(EmbedTask::Document);
    let encode = |lines: &[String]| block_on(encoder.encode_with(lines, &of_line));
    let progress = lines.progress();
    let Lines { source, interrupt, best, .. } = &mut lines;
    let totals = stream::each_run(encode, source, interrupt, progress, |chunk, embeddings| {
        let scores = embeddings.vectors.iter().map(|line| encoder.similarity(&queries[0], line));
        offer(best, chunk, scores);
        Ok(())
    })?;
    lines.print(totals, encoder.max_seq_length(EmbedTask::Document))
}

/// Blank lines are passed over.
fn offer(best: &mut Best, chunk: &Chunk, scores: impl Iterator<Item = f64>) {
    for (i, score) in scores.enumerate() {
        if !chunk.texts[i].trim().is_empty() {
            best.offer(score, chunk, i);
        }
    }
}

impl Lines<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.source.total_bytes(), !self.args.model.quiet)
    }

    fn print(self, totals: Totals, limit: Option<usize>) -> Result<(), Failure> {
        totals.report(limit, self.args.model.quiet);
        if self.args.json { self.best.print_json() } else { self.best.print() }
    }
}
