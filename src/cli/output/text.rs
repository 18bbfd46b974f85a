//! Rows as JSON lines, and as values between commas or tabs.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use vectile::Quantized;

use super::sink::Sink;
use super::{Block, Cells, RowFormat, WriteError};
use crate::cli::carried::{Carried, Cell, Row};

/// The JSON of the numbers of a row: as short as they can be and still be read back to the same bits.
fn numbers<T: Copy, N: Serialize>(
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

/// The vector of a row as a JSON list.
fn dense(out: &mut impl Write, rows: &Quantized, columns: usize, row: usize) -> io::Result<()> {
    let of = row * columns..(row + 1) * columns;
    match rows {
        Quantized::Float32(values) => numbers(out, &values[of], |v| v),
        Quantized::Float16(values) => numbers(out, &values[of], |v| v.to_f32()),
        Quantized::Int8(values) => numbers(out, &values[of], |v| v),
        Quantized::Uint8(values) => numbers(out, &values[of], |v| v),
    }
}

/// The columns of each row, whatever they come from.
pub fn carried_rows(carried: &Carried) -> Result<std::borrow::Cow<'_, [Row]>, WriteError> {
    use std::borrow::Cow;
    Ok(match carried {
        Carried::None => Cow::Borrowed(&[]),
        Carried::Rows(rows) => Cow::Borrowed(rows),
        #[cfg(feature = "bulk")]
        Carried::Batch(batch) => Cow::Owned(super::values::rows_of(batch)?),
    })
}

/// `{"index":0,…,"embedding":[…]}` a line.
pub struct Jsonl {
    pub out: Sink,
    /// The field of the vectors.
    pub field: Arc<str>,
}

impl Jsonl {
    fn row(
        &mut self,
        index: u64,
        row: Option<&Row>,
        cells: &Cells,
        at: usize,
        valid: bool,
    ) -> Result<(), WriteError> {
        let fields: &[&str] = match cells {
            Cells::Dense(..) => &[&self.field],
            Cells::Sparse(_) => &["indices", "values"],
            Cells::Multi(_) => &["embeddings"],
        };
        let row = row.map_or(&[][..], Vec::as_slice);
        let out = &mut self.out;
        out.write_all(b"{")?;
        // An object that counts for itself goes on doing so.
        if !row.iter().any(|(name, _)| &**name == "index") {
            write!(out, "\"index\":{index},")?;
        }
        for (name, cell) in row {
            if fields.contains(&&**name) {
                return Err(WriteError::Row(
                    at,
                    format!(
                        "has a field `{name}` already; call the vectors something else with \
                         --embedding-column, or leave the field out with --carry"
                    ),
                ));
            }
            serde_json::to_writer(&mut *out, name.as_ref()).map_err(io::Error::from)?;
            out.write_all(b":")?;
            match cell {
                Cell::Json(json) => out.write_all(json.as_bytes())?,
                Cell::Text(text) => {
                    serde_json::to_writer(&mut *out, text).map_err(io::Error::from)?
                }
            }
            out.write_all(b",")?;
        }
        match cells {
            Cells::Dense(columns, rows) => {
                serde_json::to_writer(&mut *out, self.field.as_ref()).map_err(io::Error::from)?;
                out.write_all(b":")?;
                match valid {
                    true => dense(out, rows, *columns, at)?,
                    false => out.write_all(b"null")?,
                }
            }
            Cells::Multi(_) if !valid => out.write_all(b"\"embeddings\":null")?,
            Cells::Multi(vectors) => {
                out.write_all(b"\"embeddings\":[")?;
                for (token, vector) in vectors[at].rows().enumerate() {
                    out.write_all(if token > 0 { b"," } else { b"" })?;
                    numbers(out, vector, |v| v)?;
                }
                out.write_all(b"]")?;
            }
            Cells::Sparse(_) if !valid => out.write_all(b"\"indices\":null,\"values\":null")?,
            Cells::Sparse(vectors) => {
                out.write_all(b"\"indices\":")?;
                numbers(out, &vectors[at].indices, |v| v)?;
                out.write_all(b",\"values\":")?;
                numbers(out, &vectors[at].values, |v| v)?;
            }
        }
        Ok(out.write_all(b"}\n")?)
    }
}

impl RowFormat for Jsonl {
    fn write(&mut self, block: &Block, cells: &Cells) -> Result<(), WriteError> {
        let carried = carried_rows(&block.carried)?;
        for (at, valid) in block.valid.iter().enumerate() {
            self.row(block.first + at as u64, carried.get(at), cells, at, *valid)?;
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

/// Values between commas or tabs under a line of names; a vector is a JSON list in one value.
pub struct Delimited {
    out: csv::Writer<Sink>,
    columns: Vec<Arc<str>>,
}

impl Delimited {
    /// A writer of rows with these columns, or, without any, the row's number; a name a column comes first
    /// where `header` says so.
    pub fn new(
        out: Sink,
        delimiter: u8,
        columns: Vec<Arc<str>>,
        field: &str,
        header: bool,
    ) -> Result<Self, WriteError> {
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
        if header {
            let names = columns.iter().map(|name| &**name);
            let index = if columns.is_empty() { Some("index") } else { None };
            out.write_record(index.into_iter().chain(names).chain([field])).map_err(csv_error)?;
        }
        Ok(Delimited { out, columns })
    }
}

fn csv_error(error: csv::Error) -> WriteError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => WriteError::Io(error),
        kind => WriteError::Io(io::Error::other(format!("{kind:?}"))),
    }
}

/// A value as it stands between commas; null is empty.
fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Json(json) if json == "null" => String::new(),
        Cell::Json(json) if json.starts_with('"') => {
            // Half a surrogate pair is no text, and stays as it was written.
            serde_json::from_str(json).unwrap_or_else(|_| json.clone())
        }
        Cell::Json(json) => json.clone(),
    }
}

impl RowFormat for Delimited {
    fn write(&mut self, block: &Block, cells: &Cells) -> Result<(), WriteError> {
        let Cells::Dense(columns, rows) = cells else {
            return Err(WriteError::Io(io::Error::other("sparse vectors between commas")));
        };
        let carried = carried_rows(&block.carried)?;
        let mut list = Vec::new();
        for (at, valid) in block.valid.iter().enumerate() {
            let row = carried.get(at).map_or(&[][..], Vec::as_slice);
            if let Some((name, _)) = row.iter().find(|(name, _)| !self.columns.contains(name)) {
                return Err(WriteError::Row(
                    at,
                    format!(
                        "has a field `{name}`, which earlier rows do not have; name the columns with \
                         --carry, or write .jsonl"
                    ),
                ));
            }
            if self.columns.is_empty() {
                let index = (block.first + at as u64).to_string();
                self.out.write_field(index).map_err(csv_error)?;
            }
            for name in &self.columns {
                let cell = row.iter().find(|(known, _)| known == name);
                let value = cell.map_or_else(String::new, |(_, cell)| plain(cell));
                self.out.write_field(value).map_err(csv_error)?;
            }
            list.clear();
            if *valid {
                dense(&mut list, rows, *columns, at)?;
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
