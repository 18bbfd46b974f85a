//! Converts copied values to Arrow columns, and copied Arrow columns to text. The copied values are fields of JSON
//! objects, or columns of text.

use std::io;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::row_format::{WriteError, half_surrogate};
use crate::cli::carried::{CarriedRow, CarriedValue, FieldType};

/// Returns the Arrow schema for these fields of JSON objects.
pub fn schema_of(fields: &[(Arc<str>, FieldType)]) -> SchemaRef {
    let field = |(name, field_type): &(Arc<str>, FieldType)| {
        let data_type = match field_type {
            FieldType::Bool => DataType::Boolean,
            FieldType::Int => DataType::Int64,
            FieldType::Float => DataType::Float64,
            FieldType::Text | FieldType::Json => DataType::Utf8,
        };
        Field::new(&**name, data_type, true)
    };
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// Converts the copied fields of rows to Arrow columns.
pub fn batch_of(
    rows: &[CarriedRow],
    fields: &[(Arc<str>, FieldType)],
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
    fields.iter().map(|(name, field_type)| column_of(rows, name, *field_type)).collect()
}

fn column_of(
    rows: &[CarriedRow],
    name: &str,
    field_type: FieldType,
) -> Result<ArrayRef, WriteError> {
    let cells = rows.iter().map(|row| {
        let cell = row.iter().find(|(known, _)| &**known == name).map(|(_, cell)| cell);
        cell.filter(|cell| FieldType::of(cell).is_some())
    });
    let unfit = |at: usize, cell: &CarriedValue| {
        let (CarriedValue::Json(found) | CarriedValue::Text(found)) = cell;
        let found: String = found.chars().take(40).collect();
        let expected = field_type.name();
        WriteError::Row(
            at,
            format!(
                "has {found} in `{name}`, where the first rows have {expected}; leave the field out with \
                 --carry, or write .jsonl"
            ),
        )
    };
    let json = |cell: &CarriedValue| match cell {
        CarriedValue::Json(json) => json.clone(),
        CarriedValue::Text(_) => String::new(),
    };
    Ok(match field_type {
        FieldType::Bool => {
            let mut out = BooleanBuilder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                out.append_option(
                    cell.map(|c| json(c).parse().map_err(|_| unfit(at, c))).transpose()?,
                );
            }
            Arc::new(out.finish())
        }
        FieldType::Int => {
            let mut out = Int64Builder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                out.append_option(
                    cell.map(|c| json(c).parse().map_err(|_| unfit(at, c))).transpose()?,
                );
            }
            Arc::new(out.finish())
        }
        FieldType::Float => {
            let mut out = Float64Builder::with_capacity(rows.len());
            for (at, cell) in cells.enumerate() {
                let number = |c: &CarriedValue| {
                    let json = json(c);
                    let is_named = matches!(json.as_str(), "NaN" | "Infinity" | "-Infinity");
                    match json.parse::<f64>() {
                        Ok(number) if number.is_finite() || is_named => Ok(number),
                        _ => Err(unfit(at, c)),
                    }
                };
                out.append_option(cell.map(number).transpose()?);
            }
            Arc::new(out.finish())
        }
        FieldType::Text | FieldType::Json => {
            let mut out = StringBuilder::new();
            for (at, cell) in cells.enumerate() {
                let text = |c: &CarriedValue| match c {
                    CarriedValue::Text(text) => Ok(text.clone()),
                    CarriedValue::Json(json) if field_type == FieldType::Text => {
                        serde_json::from_str(json).map_err(|_| match json.starts_with('"') {
                            true => WriteError::Row(at, half_surrogate(name)),
                            false => unfit(at, c),
                        })
                    }
                    CarriedValue::Json(json) => Ok(json.clone()),
                };
                out.append_option(cell.map(text).transpose()?);
            }
            Arc::new(out.finish())
        }
    })
}

/// Returns the first column whose type text formats cannot hold.
pub fn unwritable(schema: &Schema) -> Option<&Field> {
    schema.fields().iter().map(AsRef::as_ref).find(|field| !is_plain(field.data_type()))
}

/// Returns true if text formats can hold values of a type.
fn is_plain(data_type: &DataType) -> bool {
    use DataType::*;
    data_type.is_integer()
        || matches!(data_type, Null | Boolean | Float16 | Float32 | Float64)
        || matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Date32 | Timestamp(..))
        || matches!(data_type, Decimal128(..))
}

/// Converts an Arrow batch to rows of text and JSON. All columns must have types that text formats can hold.
pub fn rows_of(batch: &RecordBatch) -> Result<Vec<CarriedRow>, WriteError> {
    let mut rows: Vec<CarriedRow> = vec![CarriedRow::new(); batch.num_rows()];
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name: Arc<str> = Arc::from(field.name().as_str());
        for (at, row) in rows.iter_mut().enumerate() {
            row.push((name.clone(), value_of(column, at)?));
        }
    }
    Ok(rows)
}

fn value_of(column: &ArrayRef, at: usize) -> Result<CarriedValue, WriteError> {
    use DataType::*;
    if column.is_null(at) {
        return Ok(CarriedValue::Json("null".to_owned()));
    }
    let date = |text: Option<String>| match text {
        Some(text) => Ok(CarriedValue::Text(text)),
        None => Err(WriteError::Row(at, "has a date outside the range of the calendar".to_owned())),
    };
    macro_rules! number {
        ($type:ty) => {
            CarriedValue::Json(column.as_primitive::<$type>().value(at).to_string())
        };
    }
    macro_rules! time {
        ($type:ty) => {{
            let time = column.as_primitive::<$type>().value_as_datetime(at);
            return date(time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.f").to_string()));
        }};
    }
    // JSON has no infinity and no NaN, so these values become null.
    let float = |value: f64, shown: String| match value.is_finite() {
        true => CarriedValue::Json(shown),
        false => CarriedValue::Json("null".to_owned()),
    };
    Ok(match column.data_type() {
        Null => CarriedValue::Json("null".to_owned()),
        Boolean => CarriedValue::Json(column.as_boolean().value(at).to_string()),
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
        Utf8 => CarriedValue::Text(column.as_string::<i32>().value(at).to_owned()),
        LargeUtf8 => CarriedValue::Text(column.as_string::<i64>().value(at).to_owned()),
        Utf8View => CarriedValue::Text(column.as_string_view().value(at).to_owned()),
        Decimal128(..) => {
            CarriedValue::Json(column.as_primitive::<Decimal128Type>().value_as_string(at))
        }
        Date32 => {
            let day = column.as_primitive::<Date32Type>().value_as_datetime(at);
            return date(day.map(|day| day.format("%Y-%m-%d").to_string()));
        }
        Timestamp(TimeUnit::Second, _) => time!(TimestampSecondType),
        Timestamp(TimeUnit::Millisecond, _) => time!(TimestampMillisecondType),
        Timestamp(TimeUnit::Microsecond, _) => time!(TimestampMicrosecondType),
        Timestamp(TimeUnit::Nanosecond, _) => time!(TimestampNanosecondType),
        other => {
            return Err(WriteError::Io(io::Error::other(format!(
                "values of type {other} cannot be written as text"
            ))));
        }
    })
}
