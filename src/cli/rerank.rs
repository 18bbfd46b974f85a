//! `vectile rerank`: the lines of a file by their relevance to a query.

use vectile::{RerankOptions, block_on};

use super::args::RerankArgs;
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stream;
use super::table::Best;

pub fn run(args: &RerankArgs) -> Result<(), Failure> {
    let mut source = Source::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
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
    let mut best = Best::new(args.top.map_or(usize::MAX, |top| top.get()));
    let progress = Progress::new(source.total_bytes(), !args.model.quiet);
    let totals = stream::each_run(score, &mut source, &interrupt, progress, |chunk, scores| {
        for (i, score) in scores.values.iter().enumerate() {
            if !chunk.texts[i].trim().is_empty() {
                best.offer(f64::from(*score), chunk, i);
            }
        }
        Ok(())
    })?;
    totals.report(reranker.max_seq_length(), args.model.quiet);
    if args.json { best.print_json() } else { best.print() }
}
