//! Columns of types from objects and text, and back.

use std::io;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::WriteError;
use crate::cli::carried::{Cell, Kind, Row};

/// The columns that fields of objects become.
pub fn schema_of(fields: &[(Arc<str>, Kind)]) -> SchemaRef {
    let field = |(name, kind): &(Arc<str>, Kind)| {
        let of = match kind {
            Kind::Bool => DataType::Boolean,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text | Kind::Json => DataType::Utf8,
        };
        Field::new(&**name, of, true)
    };
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// Rows of objects or of texts as columns.
pub fn batch_of(
    rows: &[Row],
    fields: &[(Arc<str>, Kind)],
    schema: &SchemaRef,
) -> Result<Vec<ArrayRef>, WriteError> {
    for (at, row) in rows.iter().enumerate() {
        if let Some((name, _)) = row.iter().find(|(name, _)| schema.index_of(name).is_err()) {
            return Err(WriteError::Row(
                at,
                format!(
                    "has a field `{name}`, which the first rows do not have; name the columns with \
                     --carry, or write .jsonl"
                ),
            ));
        }
    }
    fields.iter().map(|(name, kind)| column_of(rows, name, *kind)).collect()
}

fn column_of(rows: &[Row], name: &str, kind: Kind) -> Result<ArrayRef, WriteError> {
    let cells = rows.iter().map(|row| {
        let cell = row.iter().find(|(known, _)| &**known == name).map(|(_, cell)| cell);
        cell.filter(|cell| Kind::of(cell).is_some())
    });
    let unfit = |at: usize, cell: &Cell| {
        let (Cell::Json(found) | Cell::Text(found)) = cell;
        let found: String = found.chars().take(40).collect();
        let kind = kind.name();
        WriteError::Row(
            at,
            format!(
                "has {found} in `{name}`, where the first rows have {kind}; leave the field out with \
                 --carry, or write .jsonl"
            ),
        )
    };
    let json = |cell: &Cell| match cell {
        Cell::Json(json) => json.clone(),
        Cell::Text(_) => String::new(),
    };
    Ok(match kind {
        Kind::Bool => {
            let mut out = BooleanBuilder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                out.append_option(
                    cell.map(|c| json(c).parse().map_err(|_| unfit(at, c))).transpose()?,
                );
            }
            Arc::new(out.finish())
        }
        Kind::Int => {
            let mut out = Int64Builder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                out.append_option(
                    cell.map(|c| json(c).parse().map_err(|_| unfit(at, c))).transpose()?,
                );
            }
            Arc::new(out.finish())
        }
        Kind::Float => {
            let mut out = Float64Builder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                let number = |c: &Cell| match json(c).parse::<f64>() {
                    Ok(number) if number.is_finite() => Ok(number),
                    _ => Err(unfit(at, c)),
                };
                out.append_option(cell.map(number).transpose()?);
            }
            Arc::new(out.finish())
        }
        Kind::Text | Kind::Json => {
            let mut out = StringBuilder::new();
            for (at, cell) in cells.enumerate() {
                let text = |c: &Cell| match c {
                    Cell::Text(text) => Ok(text.clone()),
                    Cell::Json(json) if kind == Kind::Text => {
                        serde_json::from_str(json).map_err(|_| unfit(at, c))
                    }
                    Cell::Json(json) => Ok(json.clone()),
                };
                out.append_option(cell.map(text).transpose()?);
            }
            Arc::new(out.finish())
        }
    })
}

/// The first column that text formats cannot hold, for messages.
pub fn unwritable(schema: &Schema) -> Option<&Field> {
    schema.fields().iter().map(AsRef::as_ref).find(|field| !is_plain(field.data_type()))
}

fn is_plain(of: &DataType) -> bool {
    use DataType::*;
    of.is_integer()
        || matches!(of, Null | Boolean | Float16 | Float32 | Float64)
        || matches!(of, Utf8 | LargeUtf8 | Utf8View | Date32 | Timestamp(..))
        || matches!(of, Decimal128(..))
}

/// The rows of a batch of plain columns.
pub fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, WriteError> {
    let mut rows: Vec<Row> = vec![Row::new(); batch.num_rows()];
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name: Arc<str> = Arc::from(field.name().as_str());
        for (at, row) in rows.iter_mut().enumerate() {
            row.push((name.clone(), cell_of(column, at)?));
        }
    }
    Ok(rows)
}

fn cell_of(column: &ArrayRef, at: usize) -> Result<Cell, WriteError> {
    use DataType::*;
    if column.is_null(at) {
        return Ok(Cell::Json("null".to_owned()));
    }
    let date = |of: Option<String>| match of {
        Some(text) => Ok(Cell::Text(text)),
        None => Err(WriteError::Row(at, "has a date that no calendar knows".to_owned())),
    };
    macro_rules! number {
        ($type:ty) => {
            Cell::Json(column.as_primitive::<$type>().value(at).to_string())
        };
    }
    macro_rules! time {
        ($type:ty) => {{
            let time = column.as_primitive::<$type>().value_as_datetime(at);
            return date(time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.f").to_string()));
        }};
    }
    // JSON has no infinities and no NaN.
    let float = |value: f64, shown: String| match value.is_finite() {
        true => Cell::Json(shown),
        false => Cell::Json("null".to_owned()),
    };
    Ok(match column.data_type() {
        Null => Cell::Json("null".to_owned()),
        Boolean => Cell::Json(column.as_boolean().value(at).to_string()),
        Int8 => number!(Int8Type),
        Int16 => number!(Int16Type),
        Int32 => number!(Int32Type),
        Int64 => number!(Int64Type),
        UInt8 => number!(UInt8Type),
        UInt16 => number!(UInt16Type),
        UInt32 => number!(UInt32Type),
        UInt64 => number!(UInt64Type),
        Float16 => {
            let value = column.as_primitive::<Float16Type>().value(at).to_f32();
            float(value.into(), value.to_string())
        }
        Float32 => {
            let value = column.as_primitive::<Float32Type>().value(at);
            float(value.into(), value.to_string())
        }
        Float64 => {
            let value = column.as_primitive::<Float64Type>().value(at);
            float(value, value.to_string())
        }
        Utf8 => Cell::Text(column.as_string::<i32>().value(at).to_owned()),
        LargeUtf8 => Cell::Text(column.as_string::<i64>().value(at).to_owned()),
        Utf8View => Cell::Text(column.as_string_view().value(at).to_owned()),
        Decimal128(..) => Cell::Json(column.as_primitive::<Decimal128Type>().value_as_string(at)),
        Date32 => {
            let day = column.as_primitive::<Date32Type>().value_as_datetime(at);
            return date(day.map(|day| day.format("%Y-%m-%d").to_string()));
        }
        Timestamp(TimeUnit::Second, _) => time!(TimestampSecondType),
        Timestamp(TimeUnit::Millisecond, _) => time!(TimestampMillisecondType),
        Timestamp(TimeUnit::Microsecond, _) => time!(TimestampMicrosecondType),
        Timestamp(TimeUnit::Nanosecond, _) => time!(TimestampNanosecondType),
        other => {
            return Err(WriteError::Io(io::Error::other(format!("{other} as text"))));
        }
    })
}
