//! Parquet and Arrow files: a column of texts, and columns of any type beside it.

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

use super::delimited::{carried_of, column_of};
use super::format::{Counted, File};
use super::lines::utf8;
use super::{CHUNK_BYTES, Chunk, Reader, Wanted};
use crate::cli::carried::{Carried, Shape};
use crate::cli::failure::Failure;

/// Rows that are decoded at once: texts may be long.
const ROWS: usize = 256;

/// What the file of random access begins with; a stream does not.
const MAGIC: &[u8] = b"ARROW1";

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The columns that are read of a file.
struct Picked {
    name: Arc<str>,
    /// Of all columns, those that are read, ascending.
    read: Vec<usize>,
    /// Of those, the texts and what is carried.
    text: usize,
    carried: Vec<usize>,
    shape: SchemaRef,
    lossy: bool,
}

impl Picked {
    fn of(file: &File, schema: &Schema, wanted: &Wanted) -> Result<Self, Failure> {
        let name = file.name.clone();
        let names: Vec<Arc<str>> =
            schema.fields().iter().map(|field| Arc::from(field.name().as_str())).collect();
        let text = column_of(&name, &names, &wanted.field)?;
        let of = schema.field(text).data_type();
        if !is_text(of) {
            return Err(Failure::user(format!(
                "{name}: column `{}` holds {of} and no text; name the column that holds the texts \
                 with --field",
                wanted.field
            )));
        }
        let carried: Vec<usize> =
            carried_of(&name, &names, &wanted.carry)?.into_iter().map(|(at, _)| at).collect();
        let mut read = carried.clone();
        read.push(text);
        read.sort_unstable();
        read.dedup();
        let shape: Vec<Field> = carried.iter().map(|at| plain_field(schema.field(*at))).collect();
        // Each of them is among those that are read.
        let place = |column: &usize| read.binary_search(column).unwrap_or_default();
        Ok(Picked {
            name,
            text: place(&text),
            carried: carried.iter().map(place).collect(),
            read,
            shape: Arc::new(Schema::new(shape)),
            lossy: wanted.lossy,
        })
    }

    /// The carried columns of a batch.
    fn carried(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let plain = |at: &usize| {
            let column = batch.column(*at);
            match column.as_any_dictionary_opt() {
                Some(keyed) => take(keyed.values(), keyed.keys(), None),
                None => Ok(column.clone()),
            }
        };
        let columns = self.carried.iter().map(plain).collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new(self.shape.clone(), columns)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::user(format!("{}: cannot be read: {error}", self.name))
    }

    fn shape(&self) -> Shape {
        match self.carried.is_empty() {
            true => Shape::None,
            false => Shape::Typed(self.shape.clone()),
        }
    }
}

/// As columns are carried: values of dictionaries are written out, since an Arrow file has one dictionary for
/// all its batches, and files that have a null go with files that have none.
fn plain_field(field: &Field) -> Field {
    let plain = match field.data_type() {
        DataType::Dictionary(_, values) => field.clone().with_data_type((**values).clone()),
        _ => field.clone(),
    };
    plain.with_nullable(true)
}

fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        // Texts that nobody has marked as such.
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The bytes of a value, where it has some.
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

/// Batches of a file, handed on in pieces.
struct Rows {
    picked: Picked,
    batches: Batches,
    current: Option<RecordBatch>,
    row: u64,
}

impl Rows {
    /// At most so many rows from where the last ones ended; `None` at the end.
    fn next(&mut self, most: usize) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(batch) = self.current.take().filter(|batch| batch.num_rows() > 0) {
                let now = most.min(batch.num_rows());
                if now < batch.num_rows() {
                    self.current = Some(batch.slice(now, batch.num_rows() - now));
                }
                return Ok(Some(batch.slice(0, now)));
            }
            // What a file says of itself can lead its decoder astray.
            let next = catch_unwind(AssertUnwindSafe(|| self.batches.next()));
            match next {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(batch))) => self.current = Some(batch),
                Ok(Some(Err(error))) => return Err(self.picked.failed(&error)),
                Err(_) => return Err(self.picked.failed(&"its parts contradict each other")),
            }
        }
    }

    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while chunk.texts.len() < most && bytes < CHUNK_BYTES {
            let wanted = ROWS.min(most - chunk.texts.len());
            let Some(batch) = self.next(wanted)? else { break };
            self.texts(&batch, chunk);
            bytes = chunk.about.weights.iter().sum();
            if !self.picked.carried.is_empty() {
                pieces.push(self.picked.carried(&batch).map_err(|e| self.picked.failed(&e))?);
            }
        }
        if !pieces.is_empty() {
            let all = concat_batches(&self.picked.shape, &pieces);
            chunk.about.carried = Carried::Batch(all.map_err(|e| self.picked.failed(&e))?);
        }
        Ok(())
    }

    fn texts(&mut self, batch: &RecordBatch, chunk: &mut Chunk) {
        let texts = batch.column(self.picked.text);
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
                None => Err("has no text: it is null".to_owned()),
                Some(bytes) => utf8(bytes, self.picked.lossy),
            };
            let carried = self.picked.carried.iter().map(|column| batch.column(*column));
            let beside: usize =
                carried.map(|column| bytes_of(column, row).map_or(8, <[u8]>::len)).sum();
            chunk.push(self.row, text, bytes.map_or(0, <[u8]>::len) + beside);
        }
    }
}

/// A Parquet file.
pub struct Parquet {
    file: File,
    /// Rows that are passed over before the first batch.
    start: u64,
    total: u64,
    rows: Rows,
}

impl Parquet {
    pub fn open(file: &File, wanted: &Wanted) -> Result<Self, Failure> {
        let builder = builder(file)?;
        let picked = Picked::of(file, builder.schema(), wanted)?;
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let batches: Batches = Box::new(batches(builder, &picked, 0)?);
        let rows = Rows { picked, batches, current: None, row: 0 };
        Ok(Parquet { file: file.clone(), start: 0, total, rows })
    }
}

type Builder = ParquetRecordBatchReaderBuilder<fs::File>;

fn builder(file: &File) -> Result<Builder, Failure> {
    let open = fs::File::open(&file.path).map_err(|e| Failure::file(&file.path, "read", &e))?;
    let found = catch_unwind(AssertUnwindSafe(|| Builder::try_new(open)));
    let problem = match found {
        Ok(Ok(builder)) => return Ok(builder),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its parts contradict each other".to_owned(),
    };
    let name = &file.name;
    Err(Failure::user(format!("{name}: cannot be read as Parquet: {problem}; is it whole?")))
}

fn batches(
    builder: Builder,
    picked: &Picked,
    start: u64,
) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + use<>, Failure> {
    let mask = ProjectionMask::roots(builder.parquet_schema(), picked.read.iter().copied());
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let builder = builder.with_projection(mask).with_batch_size(ROWS).with_offset(start);
    builder.build().map_err(|e| picked.failed(&e))
}

impl Reader for Parquet {
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        self.rows.fill(chunk, most)
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let skipped = rows.min(self.total - self.start);
        self.start += skipped;
        self.rows.batches = Box::new(batches(builder(&self.file)?, &self.rows.picked, self.start)?);
        self.rows.row = self.start;
        self.rows.current = None;
        Ok(skipped)
    }

    fn shape(&self) -> Shape {
        self.rows.picked.shape()
    }

    fn unit(&self) -> &'static str {
        "row"
    }

    fn position(&self) -> u64 {
        (self.file.bytes.unwrap_or_default() as f64 * self.rows.row as f64
            / self.total.max(1) as f64) as u64
    }
}

/// An Arrow IPC file (Feather) or stream.
pub struct Ipc {
    rows: Rows,
    read: Arc<AtomicU64>,
}

impl Ipc {
    pub fn open(file: &File, wanted: &Wanted) -> Result<Self, Failure> {
        let wrong = |e: ArrowError| {
            let name = &file.name;
            Failure::user(format!("{name}: cannot be read as Arrow: {e}; is it whole?"))
        };
        let open = || {
            let open = fs::File::open(&file.path);
            open.map_err(|e| Failure::file(&file.path, "read", &e))
        };
        let mut magic = [0; MAGIC.len()];
        let random = open()?.read_exact(&mut magic).is_ok() && magic == MAGIC;
        let schema = match random {
            true => FileReader::try_new_buffered(open()?, None).map(|reader| reader.schema()),
            false => StreamReader::try_new_buffered(open()?, None).map(|reader| reader.schema()),
        };
        let schema: SchemaRef = schema.map_err(wrong)?;
        let picked = Picked::of(file, &schema, wanted)?;
        let counted = Counted::new(open()?);
        let read = counted.count.clone();
        let counted = BufReader::new(counted);
        let columns = Some(picked.read.clone());
        let batches: Batches = match random {
            true => Box::new(FileReader::try_new(counted, columns).map_err(wrong)?),
            false => Box::new(StreamReader::try_new(counted, columns).map_err(wrong)?),
        };
        let rows = Rows { picked, batches, current: None, row: 0 };
        Ok(Ipc { rows, read })
    }
}

impl Reader for Ipc {
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        self.rows.fill(chunk, most)
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let mut skipped = 0;
        while skipped < rows {
            let most = usize::try_from(rows - skipped).unwrap_or(usize::MAX);
            let Some(batch) = self.rows.next(most)? else { break };
            skipped += batch.num_rows() as u64;
        }
        self.rows.row += skipped;
        Ok(skipped)
    }

    fn shape(&self) -> Shape {
        self.rows.picked.shape()
    }

    fn unit(&self) -> &'static str {
        "row"
    }

    fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}
