//! Reads vectors from a column of a table, or from a field of JSON objects.

use std::sync::Arc;

use serde_json::Value;

use super::block::{Values, VectorBlock, block_rows};
use super::{Corpus, VectorSource, width_problem};
use crate::cli::carried::{Carried, CarriedRow, CarriedSchema, CarriedValue};
use crate::cli::failure::Failure;
use crate::cli::input::{Chunk, TextSource};

/// The number of rows that are checked for vectors when JSON objects are opened.
const FIRST_ROWS: usize = 256;

/// The rows of an input that has a column or field of vectors.
pub struct TableRows {
    source: TextSource,
    /// The name of the column or field that holds the vectors.
    column: String,
    /// Is true if the row numbers of the input count from 1 without gaps. The line numbers of JSON and CSV may have
    /// gaps.
    pub counts_rows: bool,
}

impl TableRows {
    /// Returns the vectors of an input if its column `column` holds vectors, and its texts otherwise. If `required` is
    /// set, because the user named the column, an input without vectors is an error.
    pub fn find(mut source: TextSource, column: String, required: bool) -> Result<Corpus, Failure> {
        let (holds_vectors, counts_rows) = match source.schema() {
            CarriedSchema::None => (false, false),
            // A CSV column may hold vectors as JSON text.
            CarriedSchema::Texts(names) => (!names.is_empty(), false),
            CarriedSchema::Objects => {
                let Some(chunk) = source.next_chunk(FIRST_ROWS)? else {
                    return Ok(Corpus::Texts(Box::new(source)));
                };
                let holds = holds_arrays(&chunk.carried, &column);
                if required && !holds {
                    return Err(Failure::user(format!(
                        "--embedding-column: {} has no field `{column}` that holds an array of numbers",
                        chunk.location(0)
                    )));
                }
                source.put_back(chunk);
                (holds, false)
            }
            #[cfg(feature = "bulk")]
            CarriedSchema::Typed(schema) => {
                super::lists::check_type(&schema, &column, &source)?;
                (true, true)
            }
        };
        if !holds_vectors && required {
            return Err(Failure::user(format!(
                "--embedding-column: the input has no columns, so it has no column `{column}`; leave the option out"
            )));
        }
        Ok(match holds_vectors {
            true => {
                let rows = TableRows { source, column, counts_rows };
                Corpus::Vectors(VectorSource::Table(Box::new(rows)))
            }
            false => Corpus::Texts(Box::new(source)),
        })
    }

    pub fn total_bytes(&self) -> Option<u64> {
        self.source.total_bytes()
    }

    pub fn next_block(&mut self, dim: usize) -> Result<Option<VectorBlock>, Failure> {
        loop {
            let Some(chunk) = self.source.next_chunk(block_rows(dim))? else { return Ok(None) };
            let block = self.block(chunk, dim)?;
            if block.len() > 0 || block.nulls > 0 {
                return Ok(Some(block));
            }
        }
    }

    fn block(&self, mut chunk: Chunk, dim: usize) -> Result<VectorBlock, Failure> {
        let wrong = |(row, problem): (usize, String)| {
            Failure::user(format!("{}: {problem}", chunk.location(row)))
        };
        let (values, valid) = match &chunk.carried {
            Carried::None => {
                return Err(wrong((0, format!("has no column `{}`", self.column))));
            }
            Carried::Rows(rows) => json_rows(rows, &chunk, &self.column, dim).map_err(wrong)?,
            #[cfg(feature = "bulk")]
            Carried::Batch(batch) => {
                super::lists::values(batch.column(0), &self.column, dim).map_err(wrong)?
            }
        };
        let kept = |row: &usize| valid[*row];
        let all = 0..chunk.lines.len();
        Ok(VectorBlock {
            values,
            lines: all.clone().filter(kept).map(|row| chunk.lines[row]).collect(),
            texts: all.clone().filter(kept).map(|row| chunk.texts[row].take()).collect(),
            nulls: all.filter(|row| !kept(row)).count() as u64,
            name: chunk.name.clone().unwrap_or_else(|| Arc::from("stdin")),
            unit: chunk.unit,
            position: chunk.position,
        })
    }
}

fn field<'a>(row: &'a CarriedRow, column: &str) -> Option<&'a str> {
    let found = row.iter().find(|(name, _)| **name == *column)?;
    let (CarriedValue::Json(value) | CarriedValue::Text(value)) = &found.1;
    Some(value)
}

/// Returns true if at least one row holds an array in this field.
fn holds_arrays(carried: &Carried, column: &str) -> bool {
    let Carried::Rows(rows) = carried else { return false };
    rows.iter().filter_map(|row| field(row, column)).any(|json| json.starts_with('['))
}

/// Returns the vectors in the JSON field `column` of rows, and for each row whether it has a vector.
///
/// # Errors
/// Returns the index of the first row whose value is not a vector, and the problem.
fn json_rows(
    rows: &[CarriedRow],
    chunk: &Chunk,
    column: &str,
    dim: usize,
) -> Result<(Values, Vec<bool>), (usize, String)> {
    let mut values = Vec::with_capacity(rows.len() * dim);
    let mut valid = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let Some(json) = field(row, column) else {
            // A line that is not a valid object has no fields. The error should say that the line is invalid, not that
            // the field is missing.
            let problem = match (row.is_empty(), chunk.problem(at)) {
                (true, Some(problem)) if !problem.contains("has no field") => problem.to_owned(),
                _ => format!("has no field `{column}`"),
            };
            return Err((at, problem));
        };
        if matches!(json, "null" | "") {
            valid.push(false);
            continue;
        }
        let vector: Vec<f32> =
            serde_json::from_str(json).map_err(|_| (at, not_numbers(json, column)))?;
        if vector.len() != dim {
            return Err((at, width_problem(vector.len(), dim)));
        }
        values.extend(vector);
        valid.push(true);
    }
    Ok((Values::F32(values), valid))
}

/// Returns the message for a value that is not an array of numbers.
fn not_numbers(json: &str, column: &str) -> String {
    if json.contains("NaN") || json.contains("Infinity") {
        return format!("field `{column}` holds NaN or Infinity; every value must be finite");
    }
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Array(values)) if values.iter().any(Value::is_array) => {
            format!(
                "field `{column}` holds an array of arrays; a search takes one vector for each row"
            )
        }
        Ok(Value::Array(_)) => format!("field `{column}` holds values that are not numbers"),
        _ => format!("field `{column}` holds no array of numbers"),
    }
}
