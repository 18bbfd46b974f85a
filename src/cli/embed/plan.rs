//! How rows are written and what goes with them, before anything is read or loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vectile::OutputPrecision;

use crate::cli::args::{EmbedArgs, InputFormat, OnError, OutputFormat};
use crate::cli::carried::{Carried, Carry, Kind, Shape, survey};
use crate::cli::failure::Failure;
use crate::cli::input::{Compression, Source, format_of};
use crate::cli::output::Layout;

/// Rows of objects that say what the columns of an output are.
const SURVEYED: usize = 1000;

/// How rows are written, as the arguments or the name of the output say.
pub fn format(args: &EmbedArgs) -> Result<(OutputFormat, Option<Compression>), Failure> {
    let output = args.output.as_path();
    let (compression, name) = match output == Path::new("-") {
        true => (None, PathBuf::new()),
        false => Compression::of(output),
    };
    let named = match name.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(npy) if npy == "npy" => OutputFormat::Npy,
        _ => match format_of(&name) {
            Some(InputFormat::Csv) => OutputFormat::Csv,
            Some(InputFormat::Tsv) => OutputFormat::Tsv,
            Some(InputFormat::Parquet) => OutputFormat::Parquet,
            Some(InputFormat::Arrow) => OutputFormat::Arrow,
            _ => OutputFormat::Jsonl,
        },
    };
    let format = args.format.unwrap_or(named);
    let columns = matches!(format, OutputFormat::Parquet | OutputFormat::Arrow);
    if compression.is_some() && (columns || format == OutputFormat::Npy) {
        return Err(Failure::user(format!(
            "{}: only lines are compressed as a whole; leave the last extension out",
            output.display()
        )));
    }
    if columns && output == Path::new("-") {
        let sentence = "--format: Parquet and Arrow are written to files; give --output FILE";
        return Err(Failure::user(sentence));
    }
    #[cfg(not(feature = "bulk"))]
    if columns {
        return Err(Failure::without_bulk(output, "Parquet and Arrow files"));
    }
    #[cfg(not(feature = "bulk"))]
    if compression == Some(Compression::Zstd) {
        return Err(Failure::without_bulk(output, ".zst files"));
    }
    if args.sparse || args.multi_vector {
        if format != OutputFormat::Jsonl {
            let sentence =
                "--output: these vectors are written as JSON lines; give --output FILE.jsonl";
            return Err(Failure::user(sentence));
        }
        if args.precision != OutputPrecision::Float32 {
            let sentence = "--precision: these vectors are written as float32; leave it out";
            return Err(Failure::user(sentence));
        }
    }
    if format == OutputFormat::Npy && args.on_error == OnError::Null {
        let sentence = "--on-error null: a NumPy array has no null; write another format";
        return Err(Failure::user(sentence));
    }
    Ok((format, compression))
}

/// The columns that go with the rows, as far as the output can hold some.
pub fn carry(args: &EmbedArgs, format: OutputFormat, inputs: &[PathBuf]) -> Result<Carry, Failure> {
    let refused = |why: &str| Err(Failure::user(format!("--carry: {why}; leave it out")));
    let named = matches!(args.carry, Carry::These(_));
    if format == OutputFormat::Npy {
        return if named { refused("a NumPy array has no other columns") } else { Ok(Carry::None) };
    }
    if named && inputs.is_empty() {
        return refused("texts of the command line have no columns");
    }
    let table = format != OutputFormat::Jsonl;
    let stdin = inputs.iter().any(|input| input == Path::new("-"));
    if table && stdin && args.lines.input_format == Some(InputFormat::Jsonl) {
        let why = "what columns objects of stdin make is known too late; write .jsonl";
        return if named { refused(why) } else { Ok(Carry::None) };
    }
    Ok(args.carry.clone())
}

/// What the fields of objects are, from the first of them.
pub fn fields(
    args: &EmbedArgs,
    inputs: &[PathBuf],
    carry: &Carry,
) -> Result<Vec<(Arc<str>, Kind)>, Failure> {
    let mut source = Source::open_all(inputs, &args.lines, carry.clone())?;
    let mut rows = Vec::new();
    while rows.len() < SURVEYED
        && let Some(chunk) = source.next_chunk(SURVEYED - rows.len())?
    {
        if let Carried::Rows(some) = chunk.about.carried {
            rows.extend(some);
        }
    }
    let mut fields = survey(&rows);
    if let Carry::These(names) = carry {
        // One that comes later may hold anything.
        for name in names {
            if !fields.iter().any(|(known, _)| **known == **name) {
                fields.push((Arc::from(name.as_str()), Kind::Json));
            }
        }
    }
    Ok(fields)
}

/// Refuses columns that the output cannot hold.
pub fn check_columns(args: &EmbedArgs, layout: &Layout) -> Result<(), Failure> {
    if let Some((column, of)) = layout.unwritable() {
        return Err(Failure::user(format!(
            "--carry: column `{column}` holds {of}, which lines of text cannot; name the columns \
             without it, or write .parquet or .arrow"
        )));
    }
    let columns = layout.columns();
    if columns.contains(&layout.field) {
        return Err(Failure::user(format!(
            "the input has a column `{}` already; call the vectors something else with \
             --embedding-column, or leave the column out with --carry",
            layout.field
        )));
    }
    if let (Carry::These(names), Shape::None) = (&args.carry, &layout.shape)
        && !names.is_empty()
    {
        let sentence = "--carry: a text a line has no columns; leave it out";
        return Err(Failure::user(sentence));
    }
    Ok(())
}
