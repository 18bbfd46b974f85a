//! Chooses the output format and the columns that are copied to the output, before any text is read or a model is
//! loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vectile::OutputPrecision;

use crate::cli::args::{EmbedArgs, InputFormat, OnError, OutputFormat};
use crate::cli::carried::{Carried, CarriedSchema, Carry, FieldType, infer_fields};
use crate::cli::failure::Failure;
use crate::cli::input::{Compression, TextSource, format_of};
use crate::cli::output::Layout;

/// The number of JSON objects that are inspected to find the columns of an output.
const INSPECTED_ROWS: usize = 1000;

/// Returns the format and the compression of the output. `--format` sets the format. Without `--format`, the extension
/// of the output file sets the format. The compression always comes from the extension.
pub fn output_format(args: &EmbedArgs) -> Result<(OutputFormat, Option<Compression>), Failure> {
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
            "{}: only text formats can be compressed as a whole; remove the last extension of \
             this name",
            output.display()
        )));
    }
    if columns && output == Path::new("-") {
        let sentence =
            "--format: Parquet and Arrow can only be written to a file; give --output FILE";
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
            let sentence = "--output: sparse and token vectors can only be written as JSON lines; give --output FILE.jsonl";
            return Err(Failure::user(sentence));
        }
        if args.precision != OutputPrecision::Float32 {
            let sentence =
                "--precision: sparse and token vectors are always float32; leave --precision out";
            return Err(Failure::user(sentence));
        }
    }
    if format == OutputFormat::Npy && args.on_error == OnError::Null {
        let sentence =
            "--on-error null: a NumPy array cannot hold null; choose another output format";
        return Err(Failure::user(sentence));
    }
    Ok((format, compression))
}

/// Returns the input columns to copy. No columns are copied to an output that can hold only vectors.
pub fn carried_columns(
    args: &EmbedArgs,
    format: OutputFormat,
    inputs: &[PathBuf],
) -> Result<Carry, Failure> {
    let refused = |why: &str| Err(Failure::user(format!("--carry: {why}; leave --carry out")));
    let named = !args.carry.names().is_empty();
    if format == OutputFormat::Npy {
        return if named {
            refused("a NumPy array holds only the vectors, and no columns of the input")
        } else {
            Ok(Carry::None)
        };
    }
    if named && inputs.is_empty() {
        return refused("texts that are given as arguments have no columns");
    }
    let table = format != OutputFormat::Jsonl;
    let stdin = inputs.iter().any(|input| input == Path::new("-"));
    let objects = matches!(args.lines.input_format, Some(InputFormat::Jsonl | InputFormat::Json));
    if table && stdin && objects {
        let sentence = "--carry: this output format needs all column names before the first row, and JSON \
                        objects from stdin do not give them; write .jsonl, or leave --carry out";
        return if named { Err(Failure::user(sentence)) } else { Ok(Carry::None) };
    }
    Ok(args.carry.clone())
}

/// Reads the first objects of the input, and returns the names and types of the fields to copy.
pub fn carried_fields(
    args: &EmbedArgs,
    inputs: &[PathBuf],
    carry: &Carry,
) -> Result<Vec<(Arc<str>, FieldType)>, Failure> {
    let mut source = TextSource::open_all(inputs, &args.lines, carry.clone())?;
    let mut rows = Vec::new();
    while rows.len() < INSPECTED_ROWS
        && let Some(chunk) = source.next_chunk(INSPECTED_ROWS - rows.len())?
    {
        if let Carried::Rows(some) = chunk.carried {
            rows.extend(some);
        }
    }
    let mut fields = infer_fields(&rows);
    if let Carry::Only(names) = carry {
        // A field that `--carry` names may first occur in a later object, with any type. The column of such a field
        // therefore stores JSON.
        for name in names {
            if !fields.iter().any(|(known, _)| **known == **name) {
                fields.push((Arc::from(name.as_str()), FieldType::Json));
            }
        }
    }
    Ok(fields)
}

/// Checks that the output can hold the columns that `--carry` copies.
pub fn check_columns(args: &EmbedArgs, layout: &Layout) -> Result<(), Failure> {
    if let Some((column, data_type)) = layout.unwritable_column() {
        return Err(Failure::user(format!(
            "--carry: column `{column}` holds {data_type}, which text formats cannot hold; leave it out \
             with --carry all,-{column}, or write .parquet or .arrow"
        )));
    }
    let columns = layout.carried_names();
    if columns.contains(&layout.vector_column) {
        return Err(Failure::user(format!(
            "the input already has a column `{}`; choose another name for the vectors with \
             --embedding-column, or leave the column out with --carry",
            layout.vector_column
        )));
    }
    if !args.carry.names().is_empty() && matches!(layout.carried, CarriedSchema::None) {
        let sentence = "--carry: files of one text per line have no columns; leave --carry out";
        return Err(Failure::user(sentence));
    }
    Ok(())
}
