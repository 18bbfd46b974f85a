//! Stores rows in f32 until the ranges of int8 and uint8 are known, because the ranges depend on all rows.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use vectile::{OutputPrecision, Ranges};

use super::block::{Block, VectorValues, Vectors};
use super::row_format::{RowFormat, WriteError};
use super::sink::Sink;
use crate::cli::carried::{Carried, CarriedRow, CarriedValue};

/// Writes blocks one after the other. A block begins with three numbers: the index of its first row, its number of
/// rows, and the size of its copied columns in bytes. Then follow a flag for each row, which is 1 if the row has a
/// vector, then the values, and then the copied columns. Numbers are in native byte order.
pub struct SpoolWriter {
    pub out: Sink,
}

impl SpoolWriter {
    pub fn write(&mut self, block: &Block) -> Result<(), WriteError> {
        let Vectors::Dense(_, values) = &block.vectors else {
            return Err(WriteError::Io(io::Error::other(
                "int8 and uint8 ranges can be computed for dense vectors only",
            )));
        };
        let carried = pack(&block.carried)?;
        let out = &mut self.out;
        for size in [block.first, block.len() as u64, carried.len() as u64] {
            out.write_all(&size.to_ne_bytes())?;
        }
        let flags: Vec<u8> = block.valid.iter().map(|valid| u8::from(*valid)).collect();
        out.write_all(&flags)?;
        out.write_all(bytemuck::cast_slice(values))?;
        Ok(out.write_all(&carried)?)
    }

    pub fn finish(self) -> Result<(), WriteError> {
        Ok(self.out.finish()?)
    }
}

/// Reads the blocks of a [`SpoolWriter`].
pub struct SpoolReader {
    file: BufReader<File>,
    dim: usize,
}

impl SpoolReader {
    pub fn new(file: File, dim: usize) -> Self {
        SpoolReader { file: BufReader::with_capacity(1 << 16, file), dim }
    }

    /// Returns the next block, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Block>, WriteError> {
        let mut sizes = [[0u8; 8]; 3];
        for (at, size) in sizes.iter_mut().enumerate() {
            match self.file.read_exact(size) {
                Err(e) if at == 0 && e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
        }
        let [first, rows, carried] = sizes.map(u64::from_ne_bytes);
        let rows = usize::try_from(rows).map_err(io::Error::other)?;
        let mut flags = vec![0u8; rows];
        self.file.read_exact(&mut flags)?;
        let mut values = vec![0f32; rows * self.dim];
        self.file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
        let mut packed = vec![0u8; usize::try_from(carried).map_err(io::Error::other)?];
        self.file.read_exact(&mut packed)?;
        Ok(Some(Block {
            first,
            valid: flags.iter().map(|flag| *flag != 0).collect(),
            truncated: vec![false; rows],
            weights: vec![0; rows],
            vectors: Vectors::Dense(self.dim, values),
            carried: unpack(&packed)?,
            retried: 0,
        }))
    }

    /// Extends the ranges to include the values of all rows that have a vector.
    pub fn measure(mut self, ranges: &mut Ranges) -> Result<(), WriteError> {
        while let Some(block) = self.next()? {
            let Vectors::Dense(dim, values) = &block.vectors else { continue };
            for (row, valid) in values.chunks_exact(*dim).zip(&block.valid) {
                if *valid {
                    ranges.update(row);
                }
            }
        }
        Ok(())
    }

    /// Writes all rows in an output format.
    pub fn replay(
        mut self,
        to: &mut dyn RowFormat,
        precision: OutputPrecision,
        ranges: &Ranges,
    ) -> Result<(), WriteError> {
        while let Some(block) = self.next()? {
            to.write(&block, &VectorValues::of(&block, precision, Some(ranges))?)?;
        }
        Ok(())
    }
}

/// Returns copied columns as bytes: no bytes if there are no columns, JSON (which starts with `[`), or an Arrow stream.
fn pack(carried: &Carried) -> Result<Vec<u8>, WriteError> {
    Ok(match carried {
        Carried::None => Vec::new(),
        Carried::Rows(rows) => {
            let row = |row: &CarriedRow| -> Vec<(String, bool, String)> {
                let value = |(name, value): &(Arc<str>, CarriedValue)| match value {
                    CarriedValue::Text(text) => (name.to_string(), true, text.clone()),
                    CarriedValue::Json(json) => (name.to_string(), false, json.clone()),
                };
                row.iter().map(value).collect()
            };
            let rows: Vec<_> = rows.iter().map(row).collect();
            serde_json::to_vec(&rows).map_err(io::Error::from)?
        }
        #[cfg(feature = "bulk")]
        Carried::Batch(batch) => {
            let stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema());
            let mut stream = stream?;
            stream.write(batch)?;
            stream.into_inner()?
        }
    })
}

/// Returns the copied columns that [`pack`] has converted to these bytes.
fn unpack(packed: &[u8]) -> Result<Carried, WriteError> {
    match packed.first() {
        None => Ok(Carried::None),
        Some(b'[') => {
            let rows: Vec<Vec<(String, bool, String)>> =
                serde_json::from_slice(packed).map_err(io::Error::from)?;
            let cell = |(name, text, value): (String, bool, String)| {
                let cell = if text { CarriedValue::Text(value) } else { CarriedValue::Json(value) };
                (Arc::from(name), cell)
            };
            let row = |row: Vec<_>| row.into_iter().map(cell).collect();
            Ok(Carried::Rows(rows.into_iter().map(row).collect()))
        }
        #[cfg(feature = "bulk")]
        Some(_) => {
            let mut stream = arrow_ipc::reader::StreamReader::try_new(packed, None)?;
            match stream.next() {
                Some(batch) => Ok(Carried::Batch(batch?)),
                None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
        #[cfg(not(feature = "bulk"))]
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
}
