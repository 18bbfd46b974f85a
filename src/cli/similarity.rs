//! `vectile similarity`: computes the similarity of two texts, or of one text and each line of a file.

use std::path::Path;

use vectile::stream::Job;
use vectile::{EmbedOptions, Embedder, SimilarityFunction, block_on};

use super::args::SimilarityArgs;
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stdout::{StdoutLines, print};
use super::stream::{self, EmbeddedChunk, StreamContext};
use super::table::{BestLines, score_columns};

pub fn run(args: &SimilarityArgs) -> Result<(), Failure> {
    let options = args.text.options();
    match (&args.b, &args.input) {
        (Some(b), _) => {
            let texts = vec![args.a.clone(), b.clone()];
            let interrupt = Interrupt::watch();
            let embedder = model::open(&args.model)?;
            let similarity = args.similarity.unwrap_or(embedder.similarity_function());
            let quiet = args.model.quiet;
            compare_pair(&embedder, similarity, &options, texts, &interrupt, quiet)?;
            model::report_rechecked(&embedder, &args.model);
            Ok(())
        }
        (None, Some(file)) => compare_with_file(args, file, &options),
        // clap already requires the second text or `--in`, so this case does not occur.
        (None, None) => Err(Failure::user("similarity: give a second text, or --in FILE")),
    }
}

fn compare_pair(
    embedder: &Embedder,
    similarity: SimilarityFunction,
    options: &EmbedOptions,
    texts: Vec<String>,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<(), Failure> {
    let mut score = 0.0;
    let progress = Progress::new(None, false);
    let source = TextSource::arguments(texts);
    let job = Job::new(embedder, options.clone());
    let context = StreamContext { interrupt, progress, on_error: None, quiet };
    let totals =
        stream::for_each_chunk(&job, source, context, |EmbeddedChunk { rows, .. }| {
            if let [Some(a), Some(b)] = rows.as_slice() {
                score = similarity.score(a, b);
            }
            Ok(())
        })?;
    totals.report(1, embedder.max_seq_length(), quiet);
    print(&format!("{score:.4}"))
}

fn compare_with_file(
    args: &SimilarityArgs,
    file: &Path,
    options: &EmbedOptions,
) -> Result<(), Failure> {
    let source = TextSource::open(file, &args.lines)?;
    let interrupt = Interrupt::watch();
    let embedder = model::open(&args.model)?;
    let quiet = args.model.quiet;
    let similarity = args.similarity.unwrap_or(embedder.similarity_function());
    let text = block_on(embedder.embed_with(&[&args.a], options))?;
    // Without --top, the score of each line is printed as soon as it is computed. This output would break up a progress
    // bar, so no bar is drawn.
    let progress = Progress::new(source.total_bytes(), !quiet && args.top.is_some());
    let mut best = args.top.map(|top| BestLines::new(top.get()));
    let mut out = StdoutLines::new();
    let job = Job::new(&embedder, options.clone());
    let context = StreamContext { interrupt: &interrupt, progress, on_error: None, quiet };
    let totals = stream::for_each_chunk(&job, source, context, |embedded| {
        let EmbeddedChunk { chunk, rows, .. } = embedded;
        for (i, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let score = similarity.score(text.row(0), row);
            match &mut best {
                Some(best) => best.offer(score, &chunk, i),
                None => {
                    let columns = score_columns(score, chunk.lines[i], chunk.text(i));
                    out.line(format_args!("{columns}"))?;
                }
            }
        }
        out.flush()
    })?;
    let written = best.as_ref().map_or(totals.texts, BestLines::len);
    totals.report(written, embedder.max_seq_length(), quiet);
    model::report_rechecked(&embedder, &args.model);
    best.map_or(Ok(()), BestLines::print)
}
