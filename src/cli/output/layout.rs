//! The format and the columns of an output.

use std::sync::Arc;

use vectile::{OutputPrecision, Ranges};

use crate::cli::args::OutputFormat;
use crate::cli::carried::{CarriedSchema, FieldType};
use crate::cli::input::Compression;

/// A part is full once the input of its rows has at least this many bytes.
pub const PART_BYTES: usize = 64 << 20;
/// The default size of the vectors of a part, in bytes. The size is approximate.
const PART_VECTOR_BYTES: usize = 16 << 20;
/// The default maximum number of rows in a part.
const MAXIMUM_PART_ROWS: u64 = 1 << 16;

/// The format, the precision and the columns of an output.
#[derive(Debug, Clone)]
pub struct Layout {
    pub format: OutputFormat,
    pub compression: Option<Compression>,
    pub precision: OutputPrecision,
    /// The number of values in a vector, before the vector is converted to `precision`.
    pub dim: usize,
    /// The name of the column that holds the vectors.
    pub vector_column: Arc<str>,
    /// The columns to copy, as far as they are known before the first row.
    pub carried: CarriedSchema,
    /// The names and types of the columns to copy, if they come from JSON objects and the output format needs columns.
    pub fields: Vec<(Arc<str>, FieldType)>,
    /// The ranges of int8 and uint8, if `--calibration` sets them.
    pub ranges: Option<Ranges>,
    /// Maximum number of rows in a part.
    pub part_rows: u64,
    /// Is true if notes on stderr are suppressed.
    pub quiet: bool,
}

impl Layout {
    /// Returns the default for `part_rows`: a power of two whose vectors take some megabytes.
    pub fn default_part_rows(dim: usize) -> u64 {
        let rows = PART_VECTOR_BYTES / (dim * 4).max(1);
        (1 << rows.max(256).ilog2()).min(MAXIMUM_PART_ROWS)
    }

    /// Returns true if no row can be written before all rows are known, because the ranges of int8 and uint8 come from
    /// all rows.
    pub fn needs_all_rows(&self) -> bool {
        self.precision.needs_ranges() && self.ranges.is_none()
    }

    /// Returns the names of the columns to copy.
    pub fn carried_names(&self) -> Vec<Arc<str>> {
        match &self.carried {
            CarriedSchema::None => Vec::new(),
            CarriedSchema::Texts(names) => names.clone(),
            CarriedSchema::Objects => self.fields.iter().map(|(name, _)| name.clone()).collect(),
            #[cfg(feature = "bulk")]
            CarriedSchema::Typed(schema) => {
                schema.fields().iter().map(|field| Arc::from(field.name().as_str())).collect()
            }
        }
    }

    /// Returns the name and type of the first column to copy that a text format cannot hold.
    pub fn unwritable_column(&self) -> Option<(String, String)> {
        match (&self.carried, self.format) {
            #[cfg(feature = "bulk")]
            (
                CarriedSchema::Typed(schema),
                OutputFormat::Jsonl | OutputFormat::Csv | OutputFormat::Tsv,
            ) => {
                let field = super::column_values::unwritable(schema)?;
                Some((field.name().clone(), field.data_type().to_string()))
            }
            _ => None,
        }
    }
}
