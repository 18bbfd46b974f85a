//! The target `input`: a file in any format that `vectile embed` and `vectile search` read.

#![allow(clippy::expect_used, reason = "a target fails by panicking")]

#[cfg(test)]
#[path = "replay.rs"]
mod replay;

use std::path::PathBuf;
use std::str::FromStr;

use vectile::CorpusRows;

use super::args::{Dialect, LineArgs, Quote};
use super::carried::{Carried, Carry};
use super::failure::Failure;
use super::input::{Chunk, ReadOptions, TextSource};
use super::{calibration, vectors};

/// The largest number of rows that the target reads. Without it, a small compressed file could have any number.
const MOST_ROWS: usize = 20_000;

/// The number of values in each vector.
const DIMENSION: usize = 4;

const NAMES: [&str; 15] = [
    "a.txt",
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.tsv",
    "a.parquet",
    "a.arrow",
    "a.npy",
    "a.txt.gz",
    "a.jsonl.zst",
    "a.csv.gz",
    "a.json.zst",
    "a.tsv.zst",
    "a.feather",
    "calibration.npy",
];

/// The target `input`. The first byte chooses the file's name, the second and third choose options, and the other bytes
/// are the file.
pub fn input(data: &[u8]) {
    let Some((&[name, options, dialect], file)) = data.split_first_chunk() else { return };
    let name = NAMES[usize::from(name) % NAMES.len()];
    let directory = directory();
    let path = directory.join(name);
    std::fs::write(&path, file).expect("the directory is writable");
    let field = if options & 1 == 0 { "text" } else { "b" };
    match name {
        "a.npy" => read_array(&path),
        "calibration.npy" => drop(calibration::ranges(&path, DIMENSION)),
        _ => read_texts(&path, &read_options(field, options, dialect)),
    }
    let _ = std::fs::remove_file(&path);
}

/// Returns a directory for this process and thread, in memory if the system has such a directory.
fn directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let directory = parent.join(format!("vectile-fuzz-{}-{thread}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the directory can be made");
    directory
}

fn read_options(field: &str, options: u8, dialect: u8) -> ReadOptions {
    let carry = ["all", "none", "id,a", "all,-a"][usize::from(options >> 2) % 4];
    ReadOptions {
        format: None,
        field: field.to_owned(),
        lossy: options & 2 != 0,
        dialect: Dialect {
            delimiter: [None, Some(b';'), Some(b'\t'), Some(b',')][usize::from(dialect) % 4],
            quote: [None, Some(Quote::None), Some(Quote::Char(b'\'')), Some(Quote::Char(b'"'))]
                [usize::from(dialect >> 2) % 4],
            escape: [None, None, Some(b'\\'), Some(b'"')][usize::from(dialect >> 4) % 4],
        },
        carry: Carry::from_str(carry).expect("the list is valid"),
        vectors: None,
    }
}

/// A row, with everything of it that the output of `vectile embed` could contain.
type Row = (u64, Option<String>, String);

/// Reads a file in three ways, which must agree: in large chunks, row by row, and after rows that a resumed run skips.
fn read_texts(path: &std::path::Path, options: &ReadOptions) {
    let open = || {
        let mut options = options.clone();
        // Only CSV and TSV have a dialect. Other formats refuse its options.
        if !path.extension().is_some_and(|end| end == "csv" || end == "tsv") {
            options.dialect = Dialect::default();
        }
        TextSource::open_with(&[path.to_owned()], options)
    };
    let Ok(source) = open() else { return };
    let whole = rows(source, usize::MAX);
    let by_row = rows(open().expect("the file was opened before"), 1);
    match (&whole, &by_row) {
        (Ok(whole), Ok(by_row)) => assert_eq!(whole, by_row, "{path:?} depends on the chunks"),
        (Err(_), Err(_)) => return,
        _ => panic!("{path:?} is read in one way only: {whole:?} and {by_row:?}"),
    }
    let whole = whole.expect("the result was checked");
    let skipped = whole.len() / 2;
    let mut rest = open().expect("the file was opened before");
    if skipped > 0 && whole.len() < MOST_ROWS {
        rest.skip(skipped as u64).expect("the file has more rows");
        let rest = rows(rest, 3).expect("the whole file was read before");
        assert_eq!(whole[skipped..], rest, "{path:?} after {skipped} rows");
    }
}

fn rows(mut source: TextSource, at_once: usize) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    while let Some(chunk) = source.next_chunk(at_once.min(MOST_ROWS - rows.len()))? {
        check(&chunk, at_once);
        for at in 0..chunk.texts.len() {
            let carried = match chunk.carried.slice(at..at + 1) {
                Carried::None => String::new(),
                Carried::Rows(rows) => format!("{rows:?}"),
                Carried::Batch(batch) => format!("{:?}", batch.columns()),
            };
            rows.push((chunk.lines[at], chunk.texts[at].clone(), carried));
        }
        if rows.len() >= MOST_ROWS {
            break;
        }
    }
    // A carriage return without a line feed ends a record of CSV, but not a line. Two such rows have the same line
    // number.
    assert!(rows.is_sorted_by(|a, b| a.0 <= b.0), "the numbers of rows descend");
    Ok(rows)
}

/// Checks that a chunk has a number, a weight, and a text or a reason for each row.
fn check(chunk: &Chunk, at_once: usize) {
    let count = chunk.texts.len();
    assert!(count > 0 && count <= at_once, "a chunk of {count} rows, at most {at_once}");
    assert_eq!((chunk.lines.len(), chunk.weights.len()), (count, count));
    let reasons: Vec<usize> = chunk.problems.iter().map(|(at, _)| *at).collect();
    let missing: Vec<usize> = (0..count).filter(|at| chunk.texts[*at].is_none()).collect();
    assert_eq!(reasons, missing, "rows without a text and rows with a reason differ");
    assert!(chunk.problems.iter().all(|(_, problem)| !problem.is_empty()));
    match &chunk.carried {
        Carried::None => {}
        Carried::Rows(rows) => assert_eq!(rows.len(), count),
        Carried::Batch(batch) => assert_eq!(batch.num_rows(), count),
    }
}

/// Reads the vectors of a NumPy file, and checks that each block has as many values as rows.
fn read_array(path: &std::path::Path) {
    let args = LineArgs {
        input_format: None,
        field: "text".to_owned(),
        lossy: false,
        dialect: Dialect::default(),
    };
    let Ok(vectors::Corpus::Vectors(mut source)) = vectors::Corpus::open(path, &args, None) else {
        return;
    };
    let mut rows = 0;
    while let Ok(Some(block)) = source.next_block(DIMENSION) {
        assert!(block.len() > 0, "a block without rows");
        let values = match block.rows() {
            CorpusRows::F32(values) => values.len(),
            CorpusRows::F16(values) => values.len(),
        };
        assert_eq!(values, block.len() * DIMENSION);
        rows += block.len();
        if rows > MOST_ROWS {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_input_of_input_keeps_the_promises() {
        super::replay::replay("input", super::input);
    }
}
