//! `vectile bench`: speed, accuracy and memory of every precision, side by side.

use std::fs::File;
use std::path::Path;

use vectile::lab::{BenchOptions, Pair, bench};
use vectile::{AdapterChoice, block_on};

use super::args::{BenchArgs, InputFormat, LineArgs};
use super::bench_table::table;
use super::failure::Failure;
use super::input::Source;
use super::inspect::to_json;
use super::interrupt::Interrupt;
use super::table::Plain;
use super::{compare, model, progress, say};

pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let Some(name) = &args.model else {
        return compare::run(&args.compare, args.json.as_deref());
    };
    let options = options(args)?;
    // Whatever cannot be written is known before minutes are spent.
    for path in [&args.json, &args.html].into_iter().flatten() {
        writable(path)?;
    }
    let files = model::find(name, args.revision.as_deref())?;
    // Nothing is left half done by Ctrl-C: files are written at the end.
    let _interrupt = Interrupt::watch_saying("before the report was whole; no file was written");
    if cfg!(debug_assertions) && !args.quiet {
        say(format_args!("note: this is a debug build, whose host times mean little"));
    }
    let report = block_on(bench(&files, &options, &mut progress::steps(!args.quiet)))?;
    if let Some(path) = &args.json {
        write(path, &to_json(&report)?)?;
    }
    if let Some(path) = &args.html {
        let page = vectile::lab::html(&report)
            .map_err(|e| Failure::Ours(format!("internal error (please report it): {e}")))?;
        write(path, &page)?;
    }
    match args.json.as_deref() == Some(Path::new("-")) {
        true => Ok(()),
        false => Plain::new().whole(&table(&report)),
    }
}

fn options(args: &BenchArgs) -> Result<BenchOptions, Failure> {
    let numbers = |list: &[std::num::NonZeroUsize]| list.iter().map(|n| n.get()).collect();
    Ok(BenchOptions {
        adapters: adapters(&args.adapter)?,
        precisions: args.precisions.clone(),
        batch_tokens: numbers(&args.batch_tokens),
        lengths: numbers(&args.lengths),
        texts: args.texts.as_deref().map(texts).transpose()?,
        pairs: args.pairs.as_deref().map(pairs).transpose()?,
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

/// What a path is called in reports: they travel, and directories are nobody's business.
fn called(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn texts(path: &Path) -> Result<(String, Vec<String>), Failure> {
    let lines = LineArgs {
        input_format: path
            .extension()
            .is_none_or(|e| !e.eq_ignore_ascii_case("jsonl"))
            .then_some(InputFormat::Txt),
        field: "text".to_owned(),
        lossy: false,
    };
    let mut source = Source::open(path, &lines)?;
    let mut texts = Vec::new();
    while let Some(chunk) = source.next_chunk(usize::MAX)? {
        texts.extend(chunk.whole()?.into_iter().filter(|text| !text.trim().is_empty()));
    }
    match texts.len() {
        0 | 1 => Err(Failure::user(format!(
            "{}: has {} texts; a bench needs two at least",
            path.display(),
            texts.len()
        ))),
        _ => Ok((called(path), texts)),
    }
}

fn pairs(path: &Path) -> Result<(String, Vec<Pair>), Failure> {
    let file = File::open(path).map_err(|e| Failure::file(path, "read", &e))?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(file);
    let mut pairs = Vec::new();
    for row in reader.records() {
        let refuse = |line: u64, problem: &str| {
            Failure::user(format!("{}: line {line}: {problem}", path.display()))
        };
        let row = row.map_err(|e| {
            refuse(e.position().map_or(0, csv::Position::line), &format!("is no CSV: {e}"))
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let [a, b, score] = row.iter().collect::<Vec<&str>>()[..] else {
            let problem = format!("has {} fields; text, text and score are expected", row.len());
            return Err(refuse(line, &problem));
        };
        match score.trim().parse::<f64>() {
            Ok(score) if score.is_finite() => {
                pairs.push(Pair { texts: [a.to_owned(), b.to_owned()], score });
            }
            // A header.
            _ if pairs.is_empty() && line == 1 => {}
            _ => return Err(refuse(line, &format!("`{score}` is no score; a number is expected"))),
        }
    }
    match pairs.len() {
        0 | 1 => Err(Failure::user(format!(
            "{}: has {} pairs; a correlation needs two at least",
            path.display(),
            pairs.len()
        ))),
        _ => Ok((called(path), pairs)),
    }
}

/// Fails where a file cannot be made there. Leaves nothing behind, and a file that is there as it is.
pub fn writable(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let new = !path.exists();
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|e| Failure::file(path, "written", &e))?;
    if new {
        std::fs::remove_file(path).map_err(|e| Failure::file(path, "written", &e))?;
    }
    Ok(())
}

/// Writes a file as a whole, or stdout.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Plain::new().whole(text);
    }
    let failed = |e: std::io::Error| Failure::file(path, "written", &e);
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let written = std::fs::write(part, text).and_then(|()| std::fs::rename(part, path));
    if written.is_err() {
        // What could not be written is of no use; why it could not is what is said.
        let _ = std::fs::remove_file(part);
    }
    written.map_err(failed)
}
