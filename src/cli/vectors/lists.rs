//! Vectors in columns of Parquet and Arrow files.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, SchemaRef};
use half::f16;

use super::block::Values;
use super::width_problem;
use crate::cli::failure::Failure;
use crate::cli::input::TextSource;

/// Checks that a column holds lists of floating-point values.
///
/// # Errors
/// Fails if the column has another type, which the message names.
pub fn check_type(schema: &SchemaRef, column: &str, source: &TextSource) -> Result<(), Failure> {
    let Ok(field) = schema.field_with_name(column) else {
        return Err(Failure::internal(
            "the column of the vectors is missing among the columns that were read",
        ));
    };
    let item = match field.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Some(item.data_type())
        }
        _ => None,
    };
    if matches!(item, Some(DataType::Float16 | DataType::Float32 | DataType::Float64)) {
        return Ok(());
    }
    let files = source.regular_files();
    let name = files.first().map(|path| path.display().to_string()).unwrap_or_default();
    Err(Failure::user(format!(
        "{name}: column `{column}` holds {}, and a search takes lists of float32 or float16; write vectors with \
         `vectile embed --precision float32`, name their column with --embedding-column, or embed the texts with \
         --embed-texts",
        field.data_type()
    )))
}

/// Returns the vectors of a column, and for each row whether it has a vector.
///
/// # Errors
/// Returns the index of the first row whose value is not a vector of `dim` values, and the problem.
pub fn values(
    column: &ArrayRef,
    name: &str,
    dim: usize,
) -> Result<(Values, Vec<bool>), (usize, String)> {
    let item = match column.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            item.data_type().clone()
        }
        _ => return Err((0, format!("column `{name}` holds no lists of numbers"))),
    };
    let valid: Vec<bool> = (0..column.len()).map(|row| column.is_valid(row)).collect();
    let mut half: Vec<f16> = Vec::new();
    let mut single: Vec<f32> = Vec::new();
    for row in (0..column.len()).filter(|row| valid[*row]) {
        let list = match column.data_type() {
            DataType::FixedSizeList(..) => column.as_fixed_size_list().value(row),
            DataType::LargeList(_) => column.as_list::<i64>().value(row),
            _ => column.as_list::<i32>().value(row),
        };
        if list.null_count() > 0 {
            return Err((
                row,
                format!(
                    "column `{name}` holds a vector with a null value; every value must be a number"
                ),
            ));
        }
        if list.len() != dim {
            return Err((row, width_problem(list.len(), dim)));
        }
        match item {
            DataType::Float16 => half.extend(list.as_primitive::<Float16Type>().values()),
            DataType::Float32 => single.extend(list.as_primitive::<Float32Type>().values()),
            _ => {
                let wide = list.as_primitive::<Float64Type>().values();
                single.extend(wide.iter().map(|value| *value as f32));
            }
        }
    }
    let values = if item == DataType::Float16 { Values::F16(half) } else { Values::F32(single) };
    Ok((values, valid))
}
