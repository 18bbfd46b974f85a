//! Rows as Parquet and as Arrow IPC, vectors as lists of fixed size.

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
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use vectile::{OutputPrecision, Quantized};

use super::sink::Sink;
use super::values::{batch_of, schema_of};
use super::{Block, Cells, Layout, RowFormat, WriteError};
use crate::cli::carried::{Carried, Kind, Shape};

/// The name of the values in a list, as other programs have it.
const ITEM: &str = "item";

/// Carried columns and vectors as a batch.
pub struct Table {
    schema: SchemaRef,
    /// What fields of objects become.
    fields: Vec<(Arc<str>, Kind)>,
    carried: SchemaRef,
}

impl Table {
    pub fn of(layout: &Layout) -> Self {
        let (fields, carried) = match &layout.shape {
            Shape::Typed(schema) => (Vec::new(), schema.clone()),
            shape => {
                let fields = match shape {
                    Shape::Texts(names) => names.iter().map(|n| (n.clone(), Kind::Text)).collect(),
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
        // Vectors are at most as wide as a model's layer.
        let columns = layout.precision.columns(layout.dim) as i32;
        let item = Arc::new(Field::new(ITEM, value, true));
        let vectors = Field::new(&*layout.field, DataType::FixedSizeList(item, columns), true);
        let mut all: Vec<Arc<Field>> = carried.fields().iter().cloned().collect();
        if all.is_empty() {
            all.push(Arc::new(Field::new("index", DataType::Int64, false)));
        }
        all.push(Arc::new(vectors));
        Table { schema: Arc::new(Schema::new(all)), fields, carried }
    }

    fn batch(&self, block: &Block, cells: &Cells) -> Result<RecordBatch, WriteError> {
        let mut columns: Vec<ArrayRef> = match &block.carried {
            Carried::Batch(batch) if batch.schema() == self.carried => batch.columns().to_vec(),
            Carried::Batch(_) => {
                let problem = "comes from a file with other columns, or of other types; carry those \
                               that the files share, with --carry";
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
        columns.push(self.vectors(block, cells)?);
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn vectors(&self, block: &Block, cells: &Cells) -> Result<ArrayRef, WriteError> {
        let Cells::Dense(columns, rows) = cells else {
            return Err(WriteError::Io(io::Error::other("sparse vectors in lists of fixed size")));
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

/// A Parquet file: a row group a part.
pub struct Parquet {
    table: Table,
    out: ArrowWriter<Sink>,
}

fn properties(layout: &Layout, within_part: bool) -> WriterProperties {
    let vectors = ColumnPath::new(vec![layout.field.to_string(), "list".into(), ITEM.into()]);
    // Values of vectors do not repeat, do not compress and are not looked up by their size.
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_column_compression(vectors.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(vectors.clone(), false)
        .set_column_encoding(vectors.clone(), Encoding::PLAIN)
        .set_column_statistics_enabled(vectors, EnabledStatistics::None)
        .set_max_row_group_row_count((!within_part).then_some(layout.part_rows as usize))
        // A part ends by itself before it is too large.
        .set_max_row_group_bytes((!within_part).then_some(super::PART_BYTES))
        .build()
}

impl Parquet {
    pub fn new(out: Sink, layout: &Layout, within_part: bool) -> Result<Self, WriteError> {
        let table = Table::of(layout);
        let properties = properties(layout, within_part);
        let out = ArrowWriter::try_new(out, table.schema.clone(), Some(properties))?;
        Ok(Parquet { table, out })
    }
}

impl RowFormat for Parquet {
    fn write(&mut self, block: &Block, cells: &Cells) -> Result<(), WriteError> {
        Ok(self.out.write(&self.table.batch(block, cells)?)?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        // It writes the footer.
        Ok(self.out.into_inner()?.finish()?)
    }
}

/// One Parquet file of the row groups of several, whose bytes are copied as they are.
pub fn join_parquet(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    out: Sink,
    layout: &Layout,
) -> Result<(), WriteError> {
    let schema = Table::of(layout).schema;
    let writer = ArrowWriter::try_new(out, schema, Some(properties(layout, true)))?;
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
    // It writes the footer.
    Ok(writer.into_inner()?.finish()?)
}

/// Arrow batches: a stream within a part, and a file of random access as the whole.
pub enum Arrow {
    Stream(Table, StreamWriter<Sink>),
    File(Table, FileWriter<Sink>),
}

impl Arrow {
    pub fn new(out: Sink, layout: &Layout, within_part: bool) -> Result<Self, WriteError> {
        let table = Table::of(layout);
        Ok(match within_part {
            true => {
                let out = StreamWriter::try_new(out, &table.schema)?;
                Arrow::Stream(table, out)
            }
            false => {
                let out = FileWriter::try_new(out, &table.schema)?;
                Arrow::File(table, out)
            }
        })
    }
}

impl RowFormat for Arrow {
    fn write(&mut self, block: &Block, cells: &Cells) -> Result<(), WriteError> {
        Ok(match self {
            Arrow::Stream(table, out) => out.write(&table.batch(block, cells)?),
            Arrow::File(table, out) => out.write(&table.batch(block, cells)?),
        }?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        let out = match *self {
            Arrow::Stream(_, out) => out.into_inner()?,
            Arrow::File(_, out) => out.into_inner()?,
        };
        Ok(out.finish()?)
    }
}

/// One Arrow file of the batches of several streams.
pub fn join_arrow(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    out: Sink,
    layout: &Layout,
) -> Result<(), WriteError> {
    let mut out = FileWriter::try_new(out, &Table::of(layout).schema)?;
    for part in parts {
        for batch in StreamReader::try_new(BufReader::new(part?), None)? {
            out.write(&batch?)?;
        }
    }
    Ok(out.into_inner()?.finish()?)
}
