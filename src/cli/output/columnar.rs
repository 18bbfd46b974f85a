//! Writes rows as Parquet and as Arrow IPC, with vectors as lists of fixed size.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;

use arrow_array::types::{Float16Type, Float32Type, Int8Type, UInt8Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, Int64Array, PrimitiveArray, RecordBatch,
};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, DataType, Field, Metadata, Schema, SchemaRef};
use parquet::arrow::ArrowWriter as RowGroupWriter;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::Value;
use vectile::{OutputPrecision, Quantized};

use super::block::{Block, VectorValues};
use super::column_values::{batch_of, schema_of};
use super::layout::{Layout, PART_BYTES};
use super::row_format::{Extent, RowFormat, WriteError};
use super::sink::Sink;
use crate::cli::carried::{Carried, CarriedSchema, FieldType};

/// The name of a list's value field, as other programs write it.
const ITEM: &str = "item";

/// Builds Arrow record batches from the copied columns and the vectors.
pub struct BatchBuilder {
    schema: SchemaRef,
    /// The names and types of the copied columns, if the columns come from JSON objects or from text.
    fields: Vec<(Arc<str>, FieldType)>,
    carried: SchemaRef,
}

impl BatchBuilder {
    pub fn new(layout: &Layout) -> Self {
        let (fields, carried) = match &layout.carried {
            CarriedSchema::Typed(schema) => (Vec::new(), schema.clone()),
            carried => {
                let fields = match carried {
                    CarriedSchema::Texts(names) => {
                        names.iter().map(|n| (n.clone(), FieldType::Text)).collect()
                    }
                    _ => layout.fields.clone(),
                };
                let schema = schema_of(&fields);
                (fields, schema)
            }
        };
        let value = match layout.precision {
            OutputPrecision::Float32 => DataType::Float32,
            OutputPrecision::Float16 => DataType::Float16,
            OutputPrecision::Int8 | OutputPrecision::Binary => DataType::Int8,
            OutputPrecision::Uint8 | OutputPrecision::Ubinary => DataType::UInt8,
        };
        // The conversion cannot overflow: a vector is at most as wide as a layer of the model.
        let columns = layout.precision.columns(layout.dim) as i32;
        let item = Arc::new(Field::new(ITEM, value, true));
        let vectors =
            Field::new(&*layout.vector_column, DataType::FixedSizeList(item, columns), true);
        let mut all: Vec<Arc<Field>> = carried.fields().iter().cloned().collect();
        if all.is_empty() {
            all.push(Arc::new(Field::new("index", DataType::Int64, false)));
        }
        all.push(Arc::new(vectors));
        let metadata = kept_metadata(carried.metadata());
        let schema = Arc::new(Schema::new_with_metadata(all, metadata));
        BatchBuilder { schema, fields, carried }
    }

    /// Returns an Arrow batch with the rows of a block.
    fn batch(&self, block: &Block, vectors: &VectorValues) -> Result<RecordBatch, WriteError> {
        let mut columns: Vec<ArrayRef> = match &block.carried {
            Carried::Batch(batch) if batch.schema().fields() == self.carried.fields() => {
                batch.columns().to_vec()
            }
            Carried::Batch(_) => {
                let problem = "comes from a file whose columns or types differ from those of the \
                               first file; use --carry to name the columns that all files have";
                return Err(WriteError::Row(0, problem.to_owned()));
            }
            Carried::Rows(rows) => batch_of(rows, &self.fields, &self.carried)?,
            Carried::None => Vec::new(),
        };
        if columns.is_empty() {
            let first = block.first as i64;
            let numbers = (first..first + block.len() as i64).collect::<Vec<_>>();
            columns.push(Arc::new(Int64Array::from(numbers)));
        }
        columns.push(self.vector_column(block, vectors)?);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn vector_column(&self, block: &Block, vectors: &VectorValues) -> Result<ArrayRef, WriteError> {
        let VectorValues::Dense(columns, rows) = vectors else {
            return Err(WriteError::Io(io::Error::other(
                "Parquet and Arrow hold dense vectors only",
            )));
        };
        fn array<T: ArrowPrimitiveType>(values: &[T::Native]) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values.to_vec()), None))
        }
        let values = match rows {
            Quantized::Float32(values) => array::<Float32Type>(values),
            Quantized::Float16(values) => array::<Float16Type>(values),
            Quantized::Int8(values) => array::<Int8Type>(values),
            Quantized::Uint8(values) => array::<UInt8Type>(values),
        };
        let all = block.valid.iter().all(|valid| *valid);
        let nulls = (!all).then(|| NullBuffer::from(block.valid.clone()));
        let item = Arc::new(Field::new(ITEM, values.data_type().clone(), true));
        Ok(Arc::new(FixedSizeListArray::try_new(item, *columns as i32, values, nulls)?))
    }
}

/// Returns the metadata of the input's schema, changed so that it is valid for the output. pandas restores its index
/// from this metadata, and the `datasets` library restores its features.
///
/// In the pandas entry, `column_indexes` describes the names of all columns. The name of the vector column is a plain
/// string. If `column_indexes` describes anything but plain strings, it would be wrong for this column, so the list is
/// emptied.
fn kept_metadata(metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    let pandas = metadata.get("pandas").and_then(|json| serde_json::from_str::<Value>(json).ok());
    if let Some(mut pandas) = pandas
        && let Some(indexes) = pandas.get_mut("column_indexes").and_then(Value::as_array_mut)
        && (indexes.len() > 1 || indexes.iter().any(|index| index["pandas_type"] != "unicode"))
    {
        indexes.clear();
        metadata.insert("pandas".to_owned(), pandas.to_string());
    }
    metadata
}

impl From<ArrowError> for WriteError {
    fn from(error: ArrowError) -> Self {
        WriteError::Io(match error {
            ArrowError::IoError(_, error) => error,
            other => io::Error::other(other),
        })
    }
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        WriteError::Io(match error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(error) => io::Error::other(error),
            },
            other => io::Error::other(other),
        })
    }
}

/// Writes a Parquet file with one row group per part.
pub struct ParquetWriter {
    batches: BatchBuilder,
    out: RowGroupWriter<Sink>,
}

fn properties(layout: &Layout, schema: &Schema, extent: Extent) -> WriterProperties {
    let is_whole = extent == Extent::Whole;
    let vectors =
        ColumnPath::new(vec![layout.vector_column.to_string(), "list".into(), ITEM.into()]);
    // The vector column has no dictionary, compression or statistics: the values rarely repeat, they hardly compress,
    // and readers do not filter rows by them.
    let metadata = schema.metadata().iter();
    let entries: Vec<KeyValue> =
        metadata.map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    WriterProperties::builder()
        .set_key_value_metadata((!entries.is_empty()).then_some(entries))
        .set_compression(Compression::SNAPPY)
        .set_column_compression(vectors.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(vectors.clone(), false)
        .set_column_encoding(vectors.clone(), Encoding::PLAIN)
        .set_column_statistics_enabled(vectors, EnabledStatistics::None)
        .set_max_row_group_row_count(is_whole.then_some(layout.part_rows as usize))
        // If the output is written without parts, row groups are limited to the size of a part. Otherwise each part
        // becomes a single row group, which needs no limit.
        .set_max_row_group_bytes(is_whole.then_some(PART_BYTES))
        .build()
}

impl ParquetWriter {
    pub fn new(out: Sink, layout: &Layout, extent: Extent) -> Result<Self, WriteError> {
        let batches = BatchBuilder::new(layout);
        let properties = properties(layout, &batches.schema, extent);
        let out = RowGroupWriter::try_new(out, batches.schema.clone(), Some(properties))?;
        Ok(ParquetWriter { batches, out })
    }
}

impl RowFormat for ParquetWriter {
    fn write(&mut self, block: &Block, vectors: &VectorValues) -> Result<(), WriteError> {
        Ok(self.out.write(&self.batches.batch(block, vectors)?)?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        // Writes the footer.
        Ok(self.out.into_inner()?.finish()?)
    }
}

/// Joins Parquet files into one file. The bytes of their row groups are copied unchanged.
pub fn join_parquet(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    out: Sink,
    layout: &Layout,
) -> Result<(), WriteError> {
    let schema = BatchBuilder::new(layout).schema;
    let writer = RowGroupWriter::try_new(
        out,
        schema.clone(),
        Some(properties(layout, &schema, Extent::Part { first: 0 })),
    )?;
    let (mut writer, _) = writer.into_serialized_writer()?;
    for part in parts {
        let part = part?;
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&part)?;
        let index = metadata.page_index();
        for (group, rows) in metadata.row_groups().iter().enumerate() {
            let mut to = writer.next_row_group()?;
            for (at, column) in rows.columns().iter().enumerate() {
                let pages = index.and_then(|index| index.column_index(group, at)).cloned();
                let offsets = index.and_then(|index| index.offset_index(group, at)).cloned();
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size().try_into().unwrap_or_default(),
                    rows_written: rows.num_rows().try_into().unwrap_or_default(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: pages,
                    offset_index: offsets,
                };
                to.append_column(&part, close)?;
            }
            to.close()?;
        }
    }
    // Writes the footer.
    Ok(writer.into_inner()?.finish()?)
}

/// Writes Arrow batches: an Arrow stream for a part, and an Arrow file for an output without parts.
pub enum ArrowWriter {
    Stream(BatchBuilder, StreamWriter<Sink>),
    File(BatchBuilder, FileWriter<Sink>),
}

impl ArrowWriter {
    pub fn new(out: Sink, layout: &Layout, extent: Extent) -> Result<Self, WriteError> {
        let batches = BatchBuilder::new(layout);
        Ok(match extent {
            Extent::Part { .. } => {
                let out = StreamWriter::try_new(out, &batches.schema)?;
                ArrowWriter::Stream(batches, out)
            }
            Extent::Whole => {
                let out = FileWriter::try_new(out, &batches.schema)?;
                ArrowWriter::File(batches, out)
            }
        })
    }
}

impl RowFormat for ArrowWriter {
    fn write(&mut self, block: &Block, vectors: &VectorValues) -> Result<(), WriteError> {
        Ok(match self {
            ArrowWriter::Stream(batches, out) => out.write(&batches.batch(block, vectors)?),
            ArrowWriter::File(batches, out) => out.write(&batches.batch(block, vectors)?),
        }?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        let out = match *self {
            ArrowWriter::Stream(_, out) => out.into_inner()?,
            ArrowWriter::File(_, out) => out.into_inner()?,
        };
        Ok(out.finish()?)
    }
}

/// Joins Arrow streams into one Arrow file.
pub fn join_arrow(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    out: Sink,
    layout: &Layout,
) -> Result<(), WriteError> {
    let mut out = FileWriter::try_new(out, &BatchBuilder::new(layout).schema)?;
    for part in parts {
        for batch in StreamReader::try_new(BufReader::new(part?), None)? {
            out.write(&batch?)?;
        }
    }
    Ok(out.into_inner()?.finish()?)
}
