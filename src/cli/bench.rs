//! `vectile bench`: measures speed, accuracy and memory of each precision.

use std::fs::File;
use std::path::Path;

use vectile::lab::{BenchOptions, Pair, bench};
use vectile::{AdapterChoice, block_on};

use super::args::{BenchArgs, Dialect, InputFormat, LineArgs};
use super::bench_table::table;
use super::failure::Failure;
use super::input::TextSource;
use super::interrupt::Interrupt;
use super::message::note;
use super::report_file::{self, is_stdout};
use super::stdout::{print, to_json};
use super::{compare, model, progress};

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let Some(name) = &args.model else {
        return compare::run(&args.compare, args.json.as_deref());
    };
    let options = options(args)?;
    // The measurements take minutes, so the output files are checked first.
    for path in [&args.json, &args.html].into_iter().flatten() {
        report_file::check_writable(path)?;
    }
    let files = model::find(name, args.revision.as_deref())?;
    // The files are written at the end, so Ctrl-C leaves no incomplete file behind.
    let _interrupt = Interrupt::watch_with_outcome(
        "interrupted before the report was complete; no file was written",
    );
    if cfg!(debug_assertions) && !args.quiet {
        note(format_args!(
            "this is a debug build, so the times of the host are not meaningful; build with --release"
        ));
    }
    let report = block_on(bench(&files, &options, &mut progress::steps(!args.quiet)))?;
    if let Some(path) = &args.json {
        report_file::write(path, &to_json(&report)?)?;
    }
    if let Some(path) = &args.html {
        let page = vectile::lab::html(&report).map_err(Failure::internal)?;
        report_file::write(path, &page)?;
    }
    match args.json.as_deref().is_some_and(is_stdout) {
        true => Ok(()),
        false => print(&table(&report)),
    }
}

fn options(args: &BenchArgs) -> Result<BenchOptions, Failure> {
    let numbers = |list: &[std::num::NonZeroUsize]| list.iter().map(|n| n.get()).collect();
    Ok(BenchOptions {
        adapters: adapters(&args.adapter)?,
        precisions: args.precisions.clone(),
        batch_tokens: numbers(&args.batch_tokens),
        lengths: numbers(&args.lengths),
        texts: args.texts.as_deref().map(read_texts).transpose()?,
        pairs: args.pairs.as_deref().map(read_pairs).transpose()?,
        rounds: args.rounds.map(std::num::NonZeroUsize::get),
        quick: args.quick,
        kernels: args.kernels,
        label: args.label.clone(),
        disabled: args.disable.clone(),
        max_memory: args.max_memory.map(|size| size.as_u64()),
        cache_dir: model::cache_dir(),
    })
}

fn adapters(names: &[String]) -> Result<Vec<AdapterChoice>, Failure> {
    if names.iter().any(|name| name.trim().eq_ignore_ascii_case("all")) {
        let all = block_on(vectile::adapters());
        return Ok(all.iter().map(|adapter| AdapterChoice::Index(adapter.index)).collect());
    }
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

/// Returns the name of a file without its directories. Users share their reports, so a report shows no local paths.
fn report_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads a file and returns its name and its texts.
fn read_texts(path: &Path) -> Result<(String, Vec<String>), Failure> {
    let lines = LineArgs {
        input_format: path
            .extension()
            .is_none_or(|e| !e.eq_ignore_ascii_case("jsonl"))
            .then_some(InputFormat::Txt),
        field: "text".to_owned(),
        lossy: false,
        dialect: Dialect::default(),
    };
    let mut texts = TextSource::open(path, &lines)?.read_all()?;
    texts.retain(|text| !text.trim().is_empty());
    match texts.len() {
        0 | 1 => Err(Failure::user(format!(
            "{}: has {} texts; a benchmark needs at least two",
            path.display(),
            texts.len()
        ))),
        _ => Ok((report_name(path), texts)),
    }
}

/// Reads a CSV file and returns its name and its scored pairs.
fn read_pairs(path: &Path) -> Result<(String, Vec<Pair>), Failure> {
    let file = File::open(path).map_err(|e| Failure::file(path, "read", &e))?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let mut pairs = Vec::new();
    for row in reader.records() {
        let refuse = |line: u64, problem: &str| {
            Failure::user(format!("{}: line {line}: {problem}", path.display()))
        };
        let row = row.map_err(|e| {
            refuse(e.position().map_or(0, csv::Position::line), &format!("is not valid CSV: {e}"))
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let [a, b, score] = row.iter().collect::<Vec<&str>>()[..] else {
            let problem = format!("has {} fields; expected three: text, text and score", row.len());
            return Err(refuse(line, &problem));
        };
        match score.trim().parse::<f64>() {
            Ok(score) if score.is_finite() => {
                pairs.push(Pair { texts: [a.to_owned(), b.to_owned()], score });
            }
            // A first line without a score is a header, so it is skipped.
            _ if pairs.is_empty() && line == 1 => {}
            _ => return Err(refuse(line, &format!("`{score}` is not a score; expected a number"))),
        }
    }
    match pairs.len() {
        0 | 1 => Err(Failure::user(format!(
            "{}: has {} pairs; a correlation needs at least two",
            path.display(),
            pairs.len()
        ))),
        _ => Ok((report_name(path), pairs)),
    }
}
