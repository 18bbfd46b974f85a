//! `vectile rerank`: ranks the lines of a file by relevance to a query.

use vectile::stream::Job;
use vectile::{EmbedOptions, EmbedTask, RerankOptions, TextModel, block_on};

use super::args::RerankArgs;
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stream::{self, EmbeddedChunk, StreamContext};
use super::table::BestLines;

pub fn run(args: &RerankArgs) -> Result<(), Failure> {
    let source = TextSource::open(&args.input, &args.lines)?;
    let interrupt = Interrupt::watch();
    let best = BestLines::new(args.top.map_or(usize::MAX, |top| top.get()));
    let ranking = Ranking { args, source, interrupt, best };
    if args.multi_vector { rank_by_token_vectors(ranking) } else { rank_by_pairs(ranking) }
}

/// The lines to rank, and the best lines found so far.
struct Ranking<'a> {
    args: &'a RerankArgs,
    source: TextSource,
    interrupt: Interrupt,
    best: BestLines,
}

/// Scores the query and each line together, with a cross-encoder.
fn rank_by_pairs(ranking: Ranking) -> Result<(), Failure> {
    let args = ranking.args;
    let reranker = model::open_reranker(&args.model)?;
    reranker.check_ranks()?;
    let options = RerankOptions {
        prompt_name: args.prompt_name.clone(),
        prompt: args.prompt.clone(),
        on_too_long: args.on_too_long,
        ..RerankOptions::default()
    };
    let job = Job::rerank(&reranker, &args.query, options);
    let score = |scores: &Vec<f32>| scores.first().map_or(0.0, |score| f64::from(*score));
    ranking.print(&job, score, reranker.max_seq_length())
}

/// Compares the token vectors of the query with the token vectors of each line (late interaction).
fn rank_by_token_vectors(ranking: Ranking) -> Result<(), Failure> {
    let args = ranking.args;
    let encoder = model::open_multi_vector(&args.model)?;
    let options_for = |task| EmbedOptions {
        task: Some(task),
        on_too_long: args.on_too_long,
        ..EmbedOptions::default()
    };
    let query_options = EmbedOptions {
        prompt_name: args.prompt_name.clone(),
        prompt: args.prompt.clone(),
        ..options_for(EmbedTask::Query)
    };
    let queries = block_on(encoder.encode_with(&[&args.query], &query_options))?.vectors;
    let job = Job::new(&encoder, options_for(EmbedTask::Document));
    let limit = encoder.max_seq_length(EmbedTask::Document);
    ranking.print(&job, |line| encoder.similarity(&queries[0], line), limit)
}

impl Ranking<'_> {
    /// Scores every line that is not blank, and prints the best lines. `limit` is the model's max_seq_length.
    fn print<M: TextModel>(
        self,
        job: &Job<'_, M>,
        score: impl Fn(&M::Row) -> f64 + Sync,
        limit: Option<usize>,
    ) -> Result<(), Failure> {
        let Ranking { args, source, interrupt, mut best } = self;
        let quiet = args.model.quiet;
        let progress = Progress::new(source.total_bytes(), !quiet);
        let context = StreamContext { interrupt: &interrupt, progress, on_error: None, quiet };
        let totals = stream::for_each_chunk(job, source, context, |embedded| {
            let EmbeddedChunk { chunk, rows, .. } = embedded;
            for (i, row) in rows.iter().enumerate() {
                if let Some(row) = row
                    && !chunk.text(i).trim().is_empty()
                {
                    best.offer(score(row), &chunk, i);
                }
            }
            Ok(())
        })?;
        totals.report(best.len(), limit, quiet);
        model::report_rechecked(job.model(), &args.model);
        if args.json { best.print_json() } else { best.print() }
    }
}
