//! `vectile similarity`: the cosine of two texts, or of one text and each line of a file.

use std::path::Path;

use vectile::stream::Job;
use vectile::{EmbedOptions, Embedder, block_on};

use super::args::{OnError, SimilarityArgs};
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
            compare_pair(&embedder, &options, texts, &interrupt, args.model.quiet)
        }
        (None, Some(file)) => compare_with_file(args, file, &options),
        // clap requires one of the two.
        (None, None) => Err(Failure::user("similarity: give a second text, or --in FILE")),
    }
}

/// `a · b / (|a| |b|)`, or 0 if one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 { 0.0 } else { dot(a, b) / lengths }
}

fn compare_pair(
    embedder: &Embedder,
    options: &EmbedOptions,
    texts: Vec<String>,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<(), Failure> {
    let mut score = 0.0;
    let progress = Progress::new(None, false);
    let source = TextSource::arguments(texts);
    let job = Job::new(embedder, options.clone());
    let context = StreamContext { interrupt, progress, on_error: OnError::Fail, quiet };
    let totals =
        stream::for_each_chunk(&job, source, context, |EmbeddedChunk { rows, .. }| {
            if let [Some(a), Some(b)] = rows.as_slice() {
                score = cosine(a, b);
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
    let text = block_on(embedder.embed_with(&[&args.a], options))?;
    // A progress bar would be broken up by lines that are printed as they come.
    let progress = Progress::new(source.total_bytes(), !quiet && args.top.is_some());
    let mut best = args.top.map(|top| BestLines::new(top.get()));
    let mut out = StdoutLines::new();
    let job = Job::new(&embedder, options.clone());
    let context = StreamContext { interrupt: &interrupt, progress, on_error: OnError::Fail, quiet };
    let totals = stream::for_each_chunk(&job, source, context, |embedded| {
        let EmbeddedChunk { chunk, rows, .. } = embedded;
        for (i, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let score = cosine(text.row(0), row);
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
    best.map_or(Ok(()), BestLines::print)
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn cosine_does_not_depend_on_lengths() {
        assert!((cosine(&[3.0, 0.0], &[0.5, 0.5]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(cosine(&[1e30, 1e30], &[-1e30, -1e30]), -1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }
}
