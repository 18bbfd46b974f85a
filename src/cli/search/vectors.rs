//! Searches the vectors of a file, block by block. A thread reads the next block while the adapter compares the current
//! block.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use vectile::{CorpusSearch, SearchOptions, block_on};

use super::Search;
use crate::cli::args::LineArgs;
use crate::cli::failure::Failure;
use crate::cli::input::TextSource;
use crate::cli::message::note;
use crate::cli::progress::{Advance, Progress};
use crate::cli::stream::Totals;
use crate::cli::table::{BestLines, ScoredLine};
use crate::cli::vectors::{VectorBlock, VectorSource};

/// The maximum number of blocks that wait to be compared. Two more blocks are in memory: one is being read, and one is
/// being compared.
const WAITING: usize = 1;

/// The line number and the text of a row that is among the best rows so far.
struct Line {
    number: u64,
    text: Option<String>,
}

/// Returns the best rows of each query.
pub fn find(search: &Search, mut source: VectorSource) -> Result<Vec<BestLines>, Failure> {
    let Search { args, embedder, queries, similarity, interrupt } = search;
    let (quiet, dim) = (args.model.quiet, queries.dim);
    let options = SearchOptions { top_k: args.top.get(), similarity: Some(*similarity) };
    let mut corpus = embedder.search(queries, &options)?;
    let mut progress = Progress::new(source.total_bytes(), !quiet);
    let mut totals = Totals::default();
    let mut lines: HashMap<usize, Line> = HashMap::new();
    let has_texts = source.has_texts();
    let (sender, blocks) = sync_channel::<Result<VectorBlock, Failure>>(WAITING);
    interrupt.during(|| {
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while let Some(block) = source.next_block(dim).transpose() {
                    let failed = block.is_err();
                    // `send` fails if the receiver was dropped, because the search failed or was interrupted.
                    if sender.send(block).is_err() || failed {
                        break;
                    }
                }
            });
            // The loop consumes the receiver, so that the receiver is dropped before the scope waits for the reading
            // thread.
            for block in blocks {
                let block = block?;
                let first = corpus.rows();
                block_on(corpus.add(block.rows())).map_err(|e| block.failure(e, first))?;
                let rows = block.len();
                totals.texts += rows as u64 + block.nulls;
                totals.failed += block.nulls;
                progress.advance(Advance {
                    rows,
                    tokens: 0,
                    done: rows,
                    total: rows,
                    end: block.position,
                });
                keep_lines(&corpus, first, block, &mut lines);
                interrupt.count(rows);
                if interrupt.is_requested() {
                    return Err(interrupt.failure());
                }
            }
            Ok(())
        })
    })?;
    drop(progress);
    let hits = corpus.hits();
    match &args.texts {
        Some(path) => {
            let rows = corpus.rows() as u64 + totals.failed;
            read_texts(path, &args.lines, rows, &mut lines)?;
        }
        None if has_texts
            && !lines.is_empty()
            && lines.values().all(|line| line.text.is_none())
            && !quiet =>
        {
            note(format_args!(
                "the rows have no text in the column `{}`, so the results show only row numbers; \
                 name the column of the texts with --field, or give the texts with --texts FILE",
                args.lines.field
            ));
        }
        None => {}
    }
    let line = |hit: &vectile::SearchHit| {
        let line = lines.get(&hit.index);
        ScoredLine {
            score: f64::from(hit.score),
            line: line.map_or(0, |line| line.number),
            text: line.and_then(|line| line.text.clone()).unwrap_or_default(),
        }
    };
    let best: Vec<BestLines> =
        hits.iter().map(|hits| BestLines::of(hits.iter().map(line).collect())).collect();
    let shown = best.iter().map(BestLines::len).sum();
    totals.report(shown, None, quiet);
    Ok(best)
}

/// Updates `lines` after a block was compared. Adds the rows of the block that are among the best rows, and removes the
/// rows that are not among the best any more.
fn keep_lines(
    corpus: &CorpusSearch,
    first: usize,
    mut block: VectorBlock,
    lines: &mut HashMap<usize, Line>,
) {
    let mut best: HashMap<usize, Line> = HashMap::new();
    for hit in corpus.hits().into_iter().flatten() {
        if let Some(line) = lines.remove(&hit.index) {
            best.insert(hit.index, line);
        } else if let Some(row) = hit.index.checked_sub(first)
            && !best.contains_key(&hit.index)
        {
            let text = block.texts.get_mut(row).and_then(Option::take);
            best.insert(hit.index, Line { number: block.lines[row], text });
        }
    }
    *lines = best;
}

/// Reads the texts of the best rows from a file that has one text for each row.
///
/// # Errors
/// Fails if the number of texts in the file is not `rows`.
fn read_texts(
    path: &Path,
    args: &LineArgs,
    rows: u64,
    lines: &mut HashMap<usize, Line>,
) -> Result<(), Failure> {
    let mut of_row: HashMap<u64, &mut Line> =
        lines.values_mut().map(|line| (line.number, line)).collect();
    let mut source = TextSource::open(path, &LineArgs { input_format: None, ..args.clone() })?;
    let mut read = 0;
    while let Some(mut chunk) = source.next_chunk(4096)? {
        for text in &mut chunk.texts {
            read += 1;
            if let Some(line) = of_row.get_mut(&read) {
                line.text = text.take();
            }
        }
    }
    if read != rows {
        return Err(Failure::user(format!(
            "--texts: {} has {read} texts, and there are {rows} vectors; give one text for each \
             vector, in the order of the vectors",
            path.display()
        )));
    }
    Ok(())
}
