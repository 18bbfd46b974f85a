//! Times searches in vectors: on the adapter, on the host, and with NumPy's matmul and argpartition. See
//! `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its table"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use half::f16;
use half::slice::HalfFloatSliceExt;
use support::{build, model_files, noise, root};
use vectile::{
    CorpusRows, Embedder, Embeddings, SearchHit, SearchOptions, SimilarityFunction, block_on,
    semantic_search,
};

const WIDTH: usize = 384;
const TOP: usize = 10;
/// The number of rows in a block, as in `vectile search`.
const BLOCK: usize = 10_880;

fn main() {
    let whole = std::env::args().any(|arg| arg == "--bench");
    let rows = std::env::var("VECTILE_SEARCH_ROWS").ok().map(|rows| rows.parse().unwrap());
    let (rows, rounds) = if whole { (rows.unwrap_or(1_000_000), 5) } else { (3000, 1) };
    let Some(embedder) = build(Embedder::builder(model_files("bert_mean_norm"))) else { return };
    println!("adapter: {}", embedder.adapter());
    println!("{rows} rows of {WIDTH}, the {TOP} best by dot product, {rounds} rounds");
    let directory = tempfile::tempdir().unwrap();
    for count in [1, 32] {
        let queries = rows_of(count, 2);
        write_npy(&directory.path().join("queries.npy"), &queries.values);
        let corpus = rows_of(rows, 1);
        let path = directory.path().join("corpus.npy");
        write_npy(&path, &corpus.values);
        compare(&embedder, &queries, &corpus, &path, rounds);
    }
}

/// Returns values whose pattern does not repeat within the corpus.
fn rows_of(rows: usize, seed: u32) -> Embeddings {
    let values = (0..rows * WIDTH).map(|at| noise(seed, at) * 0.1).collect();
    Embeddings { dim: WIDTH, values, ..Embeddings::default() }
}

fn write_npy(path: &Path, values: &[f32]) {
    let rows = values.len() / WIDTH;
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}");
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(b"\x93NUMPY\x01\x00\x76\x00").unwrap();
    writeln!(file, "{text:117}").unwrap();
    file.write_all(bytemuck::cast_slice(values)).unwrap();
}

/// A Python process that searches with NumPy and has the corpus in memory.
struct Numpy {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Numpy {
    /// Starts the Python that `VECTILE_PYTHON` names. Without this variable, prints that NumPy is not measured.
    fn start(corpus: &Path) -> Option<Numpy> {
        let Some(python) = std::env::var_os("VECTILE_PYTHON") else {
            println!("SKIPPED: NumPy; VECTILE_PYTHON names no Python that has it");
            return None;
        };
        let mut process = Command::new(python)
            .arg(root().join("benches/peers/workers/numpy_search.py"))
            .arg(corpus)
            .arg(corpus.with_file_name("queries.npy"))
            .arg(TOP.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut numpy = Numpy { process, input, output };
        println!("NumPy {}", numpy.answer()["numpy"]);
        Some(numpy)
    }

    fn answer(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Returns the duration of a search in seconds, and the rows that it found for each query.
    fn search(&mut self) -> (f64, Vec<Vec<usize>>) {
        writeln!(self.input).unwrap();
        let answer = self.answer();
        let rows = serde_json::from_value(answer["rows"].clone()).unwrap();
        (answer["seconds"].as_f64().unwrap(), rows)
    }

    fn end(self) {
        let Numpy { mut process, input, .. } = self;
        drop(input);
        process.wait().unwrap();
    }
}

fn compare(
    embedder: &Embedder,
    queries: &Embeddings,
    corpus: &Embeddings,
    path: &Path,
    rounds: usize,
) {
    let half: Vec<f16> = corpus.values.iter().map(|value| f16::from_f32(*value)).collect();
    let widened = half.to_f32_vec();
    let mut numpy = Numpy::start(path);
    let dot = SimilarityFunction::Dot;
    let options = SearchOptions { top_k: TOP, similarity: Some(dot) };
    let on_adapter = |rows: CorpusRows<'_>| {
        let start = Instant::now();
        let mut search = embedder.search(queries, &options).unwrap();
        match rows {
            CorpusRows::F32(rows) => rows
                .chunks(BLOCK * WIDTH)
                .for_each(|block| block_on(search.add(CorpusRows::F32(block))).unwrap()),
            CorpusRows::F16(rows) => rows
                .chunks(BLOCK * WIDTH)
                .for_each(|block| block_on(search.add(CorpusRows::F16(block))).unwrap()),
        }
        (start.elapsed().as_secs_f64(), rows_found(&search.hits()))
    };
    let on_host = || {
        let start = Instant::now();
        let hits = semantic_search(queries, corpus, TOP, dot).unwrap();
        (start.elapsed().as_secs_f64(), rows_found(&hits))
    };
    // The first search is not timed, because it compiles and tests the kernels.
    let expected = on_adapter(CorpusRows::F32(&corpus.values)).1;
    let expected_of_half = rows_found(
        &block_on(embedder.semantic_search(
            queries,
            &Embeddings { dim: WIDTH, values: widened, ..Embeddings::default() },
            &options,
        ))
        .unwrap(),
    );
    let mut seconds: Vec<[Option<f64>; 4]> = Vec::new();
    // Each round measures every row of the table, so that a slow moment of the machine affects all rows.
    for _ in 0..rounds {
        let (adapter, found) = on_adapter(CorpusRows::F32(&corpus.values));
        assert_eq!(found, expected);
        let (of_half, found) = on_adapter(CorpusRows::F16(&half));
        assert_eq!(found, expected_of_half);
        let (host, found) = on_host();
        assert_eq!(found, expected);
        let of_numpy = numpy.as_mut().map(|numpy| {
            let (seconds, found) = numpy.search();
            assert_eq!(found, expected);
            seconds
        });
        seconds.push([Some(adapter), Some(of_half), Some(host), of_numpy]);
    }
    if let Some(numpy) = numpy {
        numpy.end();
    }
    println!("\n{} queries: million rows per second, and times NumPy", queries.len());
    let names = ["adapter, f32 rows", "adapter, f16 rows", "host, f32 rows", "NumPy"];
    for (at, name) in names.iter().enumerate() {
        let rates: Vec<f64> = seconds.iter().filter_map(|round| round[at]).collect();
        let rates: Vec<f64> = rates.iter().map(|s| corpus.len() as f64 / s / 1e6).collect();
        let ratios: Vec<f64> =
            seconds.iter().filter_map(|round| Some(round[3]? / round[at]?)).collect();
        println!("  {name:20} {}   {}", spread(rates), spread(ratios));
    }
}

fn rows_found(hits: &[Vec<SearchHit>]) -> Vec<Vec<usize>> {
    hits.iter().map(|hits| hits.iter().map(|hit| hit.index).collect()).collect()
}

/// Returns the median, minimum and maximum of the values.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "-".to_owned(),
        [first, .., last] => format!("{:.3} ({first:.3}–{last:.3})", values[values.len() / 2]),
        [only] => format!("{only:.3}"),
    }
}
