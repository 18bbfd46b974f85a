//! Writes rows as JSON lines, comma-separated values and tab-separated values.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use vectile::Quantized;

use super::block::{Block, VectorValues};
use super::row_format::{RowFormat, WriteError, half_surrogate};
use super::sink::Sink;
use crate::cli::carried::{Carried, CarriedRow, CarriedValue};
use crate::cli::failure::Failure;

/// Writes numbers as a JSON list. Each number has the fewest digits from which the same number can be read back.
fn write_numbers<T: Copy, N: Serialize>(
    out: &mut impl Write,
    values: &[T],
    number: impl Fn(T) -> N,
) -> io::Result<()> {
    for (column, value) in values.iter().enumerate() {
        out.write_all(if column > 0 { b"," } else { b"[" })?;
        serde_json::to_writer(&mut *out, &number(*value))?;
    }
    out.write_all(if values.is_empty() { b"[]" } else { b"]" })
}

/// Writes the vector of a row as a JSON list.
fn write_dense(
    out: &mut impl Write,
    rows: &Quantized,
    columns: usize,
    row: usize,
) -> io::Result<()> {
    let of = row * columns..(row + 1) * columns;
    match rows {
        Quantized::Float32(values) => write_numbers(out, &values[of], |v| v),
        Quantized::Float16(values) => write_numbers(out, &values[of], |v| v.to_f32()),
        Quantized::Int8(values) => write_numbers(out, &values[of], |v| v),
        Quantized::Uint8(values) => write_numbers(out, &values[of], |v| v),
    }
}

/// Returns the copied columns, row by row.
fn carried_rows(carried: &Carried) -> Result<std::borrow::Cow<'_, [CarriedRow]>, WriteError> {
    use std::borrow::Cow;
    Ok(match carried {
        Carried::None => Cow::Borrowed(&[]),
        Carried::Rows(rows) => Cow::Borrowed(rows),
        #[cfg(feature = "bulk")]
        Carried::Batch(batch) => Cow::Owned(super::column_values::rows_of(batch)?),
    })
}

/// Writes one JSON object per line: `{"index":0,…,"embedding":[…]}`.
pub struct JsonlWriter {
    pub out: Sink,
    pub vector_field: Arc<str>,
}

impl JsonlWriter {
    fn write_row(
        &mut self,
        index: u64,
        row: Option<&CarriedRow>,
        vectors: &VectorValues,
        at: usize,
        valid: bool,
    ) -> Result<(), WriteError> {
        let fields: &[&str] = match vectors {
            VectorValues::Dense(..) => &[&self.vector_field],
            VectorValues::Sparse(_) => &["indices", "values"],
            VectorValues::Multi(_) => &["embeddings"],
        };
        let row = row.map_or(&[][..], Vec::as_slice);
        let out = &mut self.out;
        out.write_all(b"{")?;
        // If `--carry` copies a field named `index`, that field replaces the row's own index.
        if !row.iter().any(|(name, _)| &**name == "index") {
            write!(out, "\"index\":{index},")?;
        }
        for (name, cell) in row {
            if fields.contains(&&**name) {
                return Err(WriteError::Row(
                    at,
                    format!(
                        "already has a field `{name}`; choose another name for the vectors with \
                         --embedding-column, or leave the field out with --carry"
                    ),
                ));
            }
            serde_json::to_writer(&mut *out, name.as_ref()).map_err(io::Error::from)?;
            out.write_all(b":")?;
            match cell {
                CarriedValue::Json(json) => out.write_all(json.as_bytes())?,
                CarriedValue::Text(text) => {
                    serde_json::to_writer(&mut *out, text).map_err(io::Error::from)?
                }
            }
            out.write_all(b",")?;
        }
        match vectors {
            VectorValues::Dense(columns, rows) => {
                serde_json::to_writer(&mut *out, self.vector_field.as_ref())
                    .map_err(io::Error::from)?;
                out.write_all(b":")?;
                match valid {
                    true => write_dense(out, rows, *columns, at)?,
                    false => out.write_all(b"null")?,
                }
            }
            VectorValues::Multi(_) if !valid => out.write_all(b"\"embeddings\":null")?,
            VectorValues::Multi(multi) => {
                out.write_all(b"\"embeddings\":[")?;
                for (token, vector) in multi[at].rows().enumerate() {
                    out.write_all(if token > 0 { b"," } else { b"" })?;
                    write_numbers(out, vector, |v| v)?;
                }
                out.write_all(b"]")?;
            }
            VectorValues::Sparse(_) if !valid => {
                out.write_all(b"\"indices\":null,\"values\":null")?
            }
            VectorValues::Sparse(sparse) => {
                out.write_all(b"\"indices\":")?;
                write_numbers(out, &sparse[at].indices, |v| v)?;
                out.write_all(b",\"values\":")?;
                write_numbers(out, &sparse[at].values, |v| v)?;
            }
        }
        Ok(out.write_all(b"}\n")?)
    }
}

impl RowFormat for JsonlWriter {
    fn write(&mut self, block: &Block, vectors: &VectorValues) -> Result<(), WriteError> {
        let carried = carried_rows(&block.carried)?;
        for (at, valid) in block.valid.iter().enumerate() {
            self.write_row(block.first + at as u64, carried.get(at), vectors, at, *valid)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.out.finish()?)
    }
}

/// Writes comma-separated or tab-separated values. A vector is one value, which holds a JSON list.
///
/// TSV is written without quotation marks, because programs disagree about quotation marks in TSV. A value with a tab
/// or a line break therefore cannot be written in TSV.
pub struct DelimitedWriter {
    out: csv::Writer<Sink>,
    is_tsv: bool,
    /// The names of the copied columns. If no columns are copied, the first value of a line is the row's index.
    columns: Vec<Arc<str>>,
}

impl DelimitedWriter {
    /// Returns a writer for rows with these copied columns. If `has_header` is set, the output begins with a header
    /// line.
    pub fn new(
        out: Sink,
        delimiter: u8,
        columns: Vec<Arc<str>>,
        vector_column: &str,
        has_header: bool,
    ) -> Result<Self, WriteError> {
        let is_tsv = delimiter == b'\t';
        let quotes = if is_tsv { csv::QuoteStyle::Never } else { csv::QuoteStyle::Necessary };
        let mut out =
            csv::WriterBuilder::new().delimiter(delimiter).quote_style(quotes).from_writer(out);
        for name in columns.iter().map(AsRef::as_ref).chain([vector_column]) {
            if is_tsv && breaks_tsv(name) {
                return Err(WriteError::Failure(Failure::user(format!(
                    "the name of column {name:?} has a tab or a line break, which TSV cannot hold; leave the column \
                     out with --carry, or write .csv"
                ))));
            }
        }
        if has_header {
            let names = columns.iter().map(|name| &**name);
            let index = if columns.is_empty() { Some("index") } else { None };
            out.write_record(index.into_iter().chain(names).chain([vector_column]))
                .map_err(csv_error)?;
        }
        Ok(DelimitedWriter { out, is_tsv, columns })
    }
}

/// Returns true if TSV cannot hold `value`.
fn breaks_tsv(value: &str) -> bool {
    value.contains(['\t', '\n', '\r'])
}

fn csv_error(error: csv::Error) -> WriteError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => WriteError::Io(error),
        kind => WriteError::Io(io::Error::other(format!("{kind:?}"))),
    }
}

/// Returns a copied value as plain text. Null becomes an empty text.
///
/// # Errors
/// Fails for a JSON string that has half of a surrogate pair, because such a string is not text.
fn plain(name: &str, value: &CarriedValue) -> Result<String, String> {
    Ok(match value {
        CarriedValue::Text(text) => text.clone(),
        CarriedValue::Json(json) if json == "null" => String::new(),
        CarriedValue::Json(json) if json.starts_with('"') => {
            serde_json::from_str(json).map_err(|_| half_surrogate(name))?
        }
        CarriedValue::Json(json) => json.clone(),
    })
}

impl RowFormat for DelimitedWriter {
    fn write(&mut self, block: &Block, vectors: &VectorValues) -> Result<(), WriteError> {
        let VectorValues::Dense(columns, rows) = vectors else {
            return Err(WriteError::Io(io::Error::other("CSV and TSV hold dense vectors only")));
        };
        let carried = carried_rows(&block.carried)?;
        let mut list = Vec::new();
        for (at, valid) in block.valid.iter().enumerate() {
            let row = carried.get(at).map_or(&[][..], Vec::as_slice);
            if let Some((name, _)) = row.iter().find(|(name, _)| !self.columns.contains(name)) {
                return Err(WriteError::Row(
                    at,
                    format!(
                        "has a field `{name}`, which the first rows do not have; name the columns with \
                         --carry, or write .jsonl"
                    ),
                ));
            }
            if self.columns.is_empty() {
                let index = (block.first + at as u64).to_string();
                self.out.write_field(index).map_err(csv_error)?;
            }
            for name in &self.columns {
                let value = row.iter().find(|(known, _)| known == name);
                let value =
                    value.map_or_else(|| Ok(String::new()), |(_, value)| plain(name, value));
                let value = value.map_err(|problem| WriteError::Row(at, problem))?;
                if self.is_tsv && breaks_tsv(&value) {
                    return Err(WriteError::Row(
                        at,
                        format!(
                            "has a tab or a line break in `{name}`, which TSV cannot hold; write .csv or .jsonl, or \
                             leave the column out with --carry all,-{name}"
                        ),
                    ));
                }
                self.out.write_field(value).map_err(csv_error)?;
            }
            list.clear();
            if *valid {
                write_dense(&mut list, rows, *columns, at)?;
            }
            self.out.write_field(&list).map_err(csv_error)?;
            self.out.write_record(None::<&[u8]>).map_err(csv_error)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        let out = self.out.into_inner().map_err(|e| e.into_error())?;
        Ok(out.finish()?)
    }
}
