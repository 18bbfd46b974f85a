//! `vectile rerank`: the lines of a file by their relevance to a query.

use vectile::stream::{Encode, Pairs, TokenVectors};
use vectile::{EmbedOptions, EmbedTask, RerankOptions, block_on};

use super::args::{OnError, RerankArgs};
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stream::{self, Run, Taken};
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
fn by_pairs(lines: Lines) -> Result<(), Failure> {
    let args = lines.args;
    let reranker = model::open_reranker(&args.model)?;
    reranker.check_ranks()?;
    let options = RerankOptions {
        prompt_name: args.prompt_name.clone(),
        prompt: args.prompt.clone(),
        on_too_long: args.on_too_long,
    };
    let model = Pairs { reranker: &reranker, query: &args.query, options };
    let score = |scores: &Vec<f32>| scores.first().map_or(0.0, |score| f64::from(*score));
    lines.rank(&model, score, reranker.max_seq_length())
}

/// The token vectors of the query and of each line, by late interaction.
fn by_token_vectors(lines: Lines) -> Result<(), Failure> {
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
    let model = TokenVectors { encoder: &encoder, options: side(EmbedTask::Document) };
    let limit = encoder.max_seq_length(EmbedTask::Document);
    lines.rank(&model, |line| encoder.similarity(&queries[0], line), limit)
}

impl Lines<'_> {
    /// Prints the lines by the scores of their rows. Blank lines are passed over.
    fn rank<M: Encode>(
        self,
        model: &M,
        score: impl Fn(&M::Row) -> f64 + Sync,
        limit: Option<usize>,
    ) -> Result<(), Failure> {
        let Lines { args, source, interrupt, mut best } = self;
        let quiet = args.model.quiet;
        let progress = Progress::new(source.total_bytes(), !quiet);
        let run = Run { interrupt: &interrupt, progress, on_error: OnError::Fail, quiet };
        let totals = stream::each_window(model, source, run, |Taken { chunk, rows, .. }| {
            for (i, row) in rows.iter().enumerate() {
                if let Some(row) = row
                    && !chunk.text(i).trim().is_empty()
                {
                    best.offer(score(row), &chunk, i);
                }
            }
            Ok(())
        })?;
        totals.report(limit, quiet);
        if args.json { best.print_json() } else { best.print() }
    }
}
