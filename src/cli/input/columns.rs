//! Reads Parquet and Arrow files: a column of texts, and columns of any type that are copied to the output.

use std::fs;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::chunk::{CHUNK_BYTES, Chunk, ReadOptions, RowReader};
use super::encoding::utf8;
use super::file::{CountingReader, InputFile};
use super::header::{carried_columns, text_beside_vectors};
use crate::cli::carried::{Carried, CarriedSchema};
use crate::cli::failure::Failure;

/// The number of rows that are decoded in one step. The number is small, because decoded texts may be long.
const BATCH_ROWS: usize = 256;

/// The first bytes of an Arrow file. An Arrow stream starts with other bytes.
const ARROW_MAGIC: &[u8] = b"ARROW1";

/// The first bytes of a Feather file of version 1, which is not Arrow IPC.
const FEATHER_1_MAGIC: &[u8] = b"FEA1";

/// The error message for a file on which the decoder panics.
const CONTRADICTORY: &str = "the metadata and the data of the file contradict each other";

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The columns that are read from a file.
struct Projection {
    /// The name of the file, for messages.
    name: Arc<str>,
    /// Indices of the columns that are read, in ascending order.
    read: Vec<usize>,
    /// Index of the text column among the columns that are read, or `None` if the file has vectors but no texts.
    text: Option<usize>,
    /// Indices of the columns to copy, among the columns that are read.
    carried: Vec<usize>,
    carried_schema: SchemaRef,
    lossy: bool,
}

impl Projection {
    fn new(file: &InputFile, schema: &Schema, options: &ReadOptions) -> Result<Self, Failure> {
        let name = file.name.clone();
        let names: Vec<Arc<str>> =
            schema.fields().iter().map(|field| Arc::from(field.name().as_str())).collect();
        let text = text_beside_vectors(&name, &names, options)?;
        let text_type = text.map(|text| schema.field(text).data_type());
        if let Some(data_type) = text_type.filter(|data_type| !is_text(data_type)) {
            return Err(Failure::user(format!(
                "{name}: column `{}` holds {data_type}, not text; name the column of the texts with \
                 --field",
                options.field
            )));
        }
        let carried: Vec<usize> = carried_columns(&name, &names, &options.carry)?
            .iter()
            .map(|column| column.index)
            .collect();
        let mut read = carried.clone();
        read.extend(text);
        read.sort_unstable();
        read.dedup();
        let fields: Vec<Field> = carried.iter().map(|at| plain_field(schema.field(*at))).collect();
        // `read` contains the text column and every column that `--carry` copies, so the search always succeeds.
        let place = |column: &usize| read.binary_search(column).unwrap_or_default();
        Ok(Projection {
            name,
            text: text.as_ref().map(place),
            carried: carried.iter().map(place).collect(),
            read,
            carried_schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            lossy: options.lossy,
        })
    }

    /// Returns the columns of a batch that are copied to the output.
    fn carried(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let plain = |at: &usize| {
            let column = batch.column(*at);
            match column.as_any_dictionary_opt() {
                Some(keyed) => take(keyed.values(), keyed.keys(), None),
                None => Ok(column.clone()),
            }
        };
        let columns = self.carried.iter().map(plain).collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new(self.carried_schema.clone(), columns)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::user(format!("{}: cannot be read: {error}", self.name))
    }

    fn schema(&self) -> CarriedSchema {
        match self.carried.is_empty() {
            true => CarriedSchema::None,
            false => CarriedSchema::Typed(self.carried_schema.clone()),
        }
    }
}

/// Returns the type that a copied column has in the output. A dictionary-encoded column becomes a column of plain
/// values, because an Arrow file allows only one dictionary for all its batches. Every column is nullable, so that
/// files with and without nulls can be combined.
fn plain_field(field: &Field) -> Field {
    let plain = match field.data_type() {
        DataType::Dictionary(_, values) => field.clone().with_data_type((**values).clone()),
        _ => field.clone(),
    };
    plain.with_nullable(true)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        // Some writers store texts without marking them as UTF-8, so binary columns are accepted as texts.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Returns the bytes of a text or binary value, or `None` if the value is null or has another type.
fn bytes_of(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).as_bytes(),
        DataType::Utf8View => array.as_string_view().value(row).as_bytes(),
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        _ => return None,
    })
}

/// The rows of a file, which are returned in batches of any requested size.
struct BatchRows {
    projection: Projection,
    batches: Batches,
    /// The rows of the last decoded batch that were not returned yet.
    current: Option<RecordBatch>,
    /// The number, from 1, of the latest row that was returned.
    row: u64,
}

impl BatchRows {
    /// Returns the next rows, up to `max_rows`, or `None` at the end.
    fn next(&mut self, max_rows: usize) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(batch) = self.current.take().filter(|batch| batch.num_rows() > 0) {
                let rows = max_rows.min(batch.num_rows());
                if rows < batch.num_rows() {
                    self.current = Some(batch.slice(rows, batch.num_rows() - rows));
                }
                return Ok(Some(batch.slice(0, rows)));
            }
            // The Parquet or Arrow decoder may panic on a file with wrong metadata. Such a panic is reported as an
            // error of the file.
            let next = catch_unwind(AssertUnwindSafe(|| self.batches.next()));
            match next {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(batch))) => self.current = Some(batch),
                Ok(Some(Err(error))) => return Err(self.projection.failed(&error)),
                Err(_) => return Err(self.projection.failed(&CONTRADICTORY)),
            }
        }
    }

    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while chunk.texts.len() < max_rows && bytes < CHUNK_BYTES {
            let rows = BATCH_ROWS.min(max_rows - chunk.texts.len());
            let Some(batch) = self.next(rows)? else { break };
            self.push_texts(&batch, chunk);
            bytes = chunk.weights.iter().sum();
            if !self.projection.carried.is_empty() {
                pieces
                    .push(self.projection.carried(&batch).map_err(|e| self.projection.failed(&e))?);
            }
        }
        if !pieces.is_empty() {
            let all = concat_batches(&self.projection.carried_schema, &pieces);
            chunk.carried = Carried::Batch(all.map_err(|e| self.projection.failed(&e))?);
        }
        Ok(())
    }

    fn push_texts(&mut self, batch: &RecordBatch, chunk: &mut Chunk) {
        let Some(text) = self.projection.text else {
            for _ in 0..batch.num_rows() {
                self.row += 1;
                chunk.push(self.row, Err("has no text".to_owned()), 0);
            }
            return;
        };
        let texts = batch.column(text);
        let keyed = texts.as_any_dictionary_opt().filter(|texts| !texts.values().is_empty());
        let keys = keyed.map(|texts| texts.normalized_keys());
        for row in 0..batch.num_rows() {
            self.row += 1;
            let bytes = match (&keyed, &keys) {
                (Some(texts), Some(keys)) if !texts.is_null(row) => {
                    bytes_of(texts.values(), keys[row])
                }
                _ => bytes_of(texts, row),
            };
            let text = match bytes {
                None => Err("has no text, because the value is null".to_owned()),
                Some(bytes) => utf8(bytes, self.projection.lossy),
            };
            let carried = self.projection.carried.iter().map(|column| batch.column(*column));
            let beside: usize =
                carried.map(|column| bytes_of(column, row).map_or(8, <[u8]>::len)).sum();
            chunk.push(self.row, text, bytes.map_or(0, <[u8]>::len) + beside);
        }
    }
}

/// Reads a Parquet file.
pub struct ParquetReader {
    file: InputFile,
    /// The row at which reading starts.
    start: u64,
    /// The number of rows in the file.
    total: u64,
    rows: BatchRows,
}

impl ParquetReader {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let builder = builder(file)?;
        let projection = Projection::new(file, builder.schema(), options)?;
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let batches: Batches = Box::new(batches(builder, &projection, 0)?);
        let rows = BatchRows { projection, batches, current: None, row: 0 };
        Ok(ParquetReader { file: file.clone(), start: 0, total, rows })
    }
}

type Builder = ParquetRecordBatchReaderBuilder<fs::File>;

fn builder(file: &InputFile) -> Result<Builder, Failure> {
    let open = fs::File::open(&file.path).map_err(|e| Failure::file(&file.path, "read", &e))?;
    let found = catch_unwind(AssertUnwindSafe(|| Builder::try_new(open)));
    let problem = match found {
        Ok(Ok(builder)) => return Ok(builder),
        Ok(Err(error)) => error.to_string(),
        Err(_) => CONTRADICTORY.to_owned(),
    };
    let name = &file.name;
    Err(Failure::user(format!(
        "{name}: cannot be read as Parquet: {problem}; is the file complete?"
    )))
}

fn batches(
    builder: Builder,
    projection: &Projection,
    start: u64,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + use<>, Failure> {
    let mask = ProjectionMask::roots(builder.parquet_schema(), projection.read.iter().copied());
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(start);
    builder.build().map_err(|e| projection.failed(&e))
}

impl RowReader for ParquetReader {
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        self.rows.fill(chunk, max_rows)
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let skipped = rows.min(self.total - self.start);
        self.start += skipped;
        self.rows.batches =
            Box::new(batches(builder(&self.file)?, &self.rows.projection, self.start)?);
        self.rows.row = self.start;
        self.rows.current = None;
        Ok(skipped)
    }

    fn schema(&self) -> CarriedSchema {
        self.rows.projection.schema()
    }

    fn unit(&self) -> &'static str {
        "row"
    }

    fn position(&self) -> u64 {
        (self.file.bytes.unwrap_or_default() as f64 * self.rows.row as f64
            / self.total.max(1) as f64) as u64
    }
}

/// Reads an Arrow IPC file (Feather) or stream.
pub struct ArrowReader {
    rows: BatchRows,
    bytes_read: Arc<AtomicU64>,
}

impl ArrowReader {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let malformed = |e: ArrowError| {
            let name = &file.name;
            Failure::user(format!("{name}: cannot be read as Arrow: {e}; is the file complete?"))
        };
        let open = || {
            let open = fs::File::open(&file.path);
            open.map_err(|e| Failure::file(&file.path, "read", &e))
        };
        let mut magic = [0; ARROW_MAGIC.len()];
        let is_file = open()?.read_exact(&mut magic).is_ok() && magic == ARROW_MAGIC;
        if magic.starts_with(FEATHER_1_MAGIC) {
            let name = &file.name;
            return Err(Failure::user(format!(
                "{name}: is a Feather file of version 1, which is not Arrow IPC; rewrite it as version 2: python -c \
                 \"from pyarrow import feather; feather.write_feather(feather.read_table('{name}'), 'FILE.arrow')\""
            )));
        }
        let schema = match is_file {
            true => FileReader::try_new_buffered(open()?, None).map(|reader| reader.schema()),
            false => StreamReader::try_new_buffered(open()?, None).map(|reader| reader.schema()),
        };
        let schema: SchemaRef = schema.map_err(malformed)?;
        let projection = Projection::new(file, &schema, options)?;
        let counting = CountingReader::new(open()?);
        let bytes_read = counting.count.clone();
        let counting = BufReader::new(counting);
        let columns = Some(projection.read.clone());
        let batches: Batches = match is_file {
            true => Box::new(FileReader::try_new(counting, columns).map_err(malformed)?),
            false => Box::new(StreamReader::try_new(counting, columns).map_err(malformed)?),
        };
        let rows = BatchRows { projection, batches, current: None, row: 0 };
        Ok(ArrowReader { rows, bytes_read })
    }
}

impl RowReader for ArrowReader {
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        self.rows.fill(chunk, max_rows)
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let mut skipped = 0;
        while skipped < rows {
            let max_rows = usize::try_from(rows - skipped).unwrap_or(usize::MAX);
            let Some(batch) = self.rows.next(max_rows)? else { break };
            skipped += batch.num_rows() as u64;
        }
        self.rows.row += skipped;
        Ok(skipped)
    }

    fn schema(&self) -> CarriedSchema {
        self.rows.projection.schema()
    }

    fn unit(&self) -> &'static str {
        "row"
    }

    fn position(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}
