//! Reads the rows of a NumPy array.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use half::f16;

use super::block::{Values, VectorBlock, block_rows};
use super::width_problem;
use crate::cli::failure::Failure;
use crate::cli::npy::NpyHeader;

/// The type of the values of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F16,
    F32,
    F64,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Dtype::F16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

/// The rows of a two-dimensional array.
pub struct NpyRows {
    name: Arc<str>,
    file: BufReader<File>,
    dtype: Dtype,
    /// The number of rows.
    rows: u64,
    /// The number of values in a row.
    width: u64,
    /// The number of rows that were read.
    read: u64,
    /// The number of bytes before the first row.
    header_bytes: u64,
}

impl NpyRows {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let wrong = |problem: String| Failure::user(format!("{name}: {problem}"));
        let failed = |e: std::io::Error| Failure::file(path, "read", &e);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::new(file);
        let header = NpyHeader::read(&mut file)
            .map_err(|problem| wrong(format!("{problem}; is the file complete?")))?;
        let dtype = match &*header.dtype {
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            other => {
                return Err(wrong(format!(
                    "holds values of dtype {other}, and a search takes float32 or float16; write them with \
                     numpy.save(FILE, array.astype('<f4')), or with `vectile embed --precision float32`"
                )));
            }
        };
        let [rows, width] = header.shape[..] else {
            return Err(wrong(format!(
                "has the shape ({}), and a search takes one row for each vector; reshape the array to (rows, \
                 values)",
                header.shape()
            )));
        };
        if header.fortran_order && rows > 1 && width > 1 {
            return Err(wrong(
                "is stored column by column; write it with numpy.save(FILE, numpy.ascontiguousarray(array))"
                    .to_owned(),
            ));
        }
        let row_bytes = width.checked_mul(dtype.bytes());
        let expected = row_bytes.and_then(|row| row.checked_mul(rows));
        let found = length.saturating_sub(header.bytes);
        if expected.is_none_or(|expected| expected > found) {
            let whole = found / row_bytes.unwrap_or(u64::MAX).max(1);
            return Err(wrong(format!(
                "is incomplete: its header names {rows} rows, but the file holds {whole}; write \
                 or copy the file again"
            )));
        }
        if expected.is_some_and(|expected| expected < found) {
            let more = found - expected.unwrap_or_default();
            return Err(wrong(format!(
                "has {more} bytes after its {rows} rows; write each array into a file of its own"
            )));
        }
        let header_bytes = header.bytes;
        Ok(NpyRows { name, file, dtype, rows, width, read: 0, header_bytes })
    }

    pub fn total_bytes(&self) -> u64 {
        self.header_bytes + self.rows * self.row_bytes()
    }

    fn row_bytes(&self) -> u64 {
        self.width * self.dtype.bytes()
    }

    pub fn next_block(&mut self, dim: usize) -> Result<Option<VectorBlock>, Failure> {
        let name = &self.name;
        if self.width != dim as u64 {
            let width = usize::try_from(self.width).unwrap_or(usize::MAX);
            return Err(Failure::user(format!("{name}: each row {}", width_problem(width, dim))));
        }
        let rows = (self.rows - self.read).min(block_rows(dim) as u64);
        if rows == 0 {
            return Ok(None);
        }
        // `rows` is at most the number of rows in a block, so the cast is lossless.
        let values = rows as usize * dim;
        let cut_off = |e: std::io::Error| {
            Failure::user(format!("{name}: cannot be read after row {}: {e}", self.read))
        };
        let values = match self.dtype {
            Dtype::F32 => {
                let mut read = vec![0f32; values];
                self.file.read_exact(bytemuck::cast_slice_mut(&mut read)).map_err(cut_off)?;
                Values::F32(read)
            }
            Dtype::F16 => {
                let mut read = vec![0u16; values];
                self.file.read_exact(bytemuck::cast_slice_mut(&mut read)).map_err(cut_off)?;
                Values::F16(read.into_iter().map(f16::from_bits).collect())
            }
            Dtype::F64 => {
                let mut read = vec![0f64; values];
                self.file.read_exact(bytemuck::cast_slice_mut(&mut read)).map_err(cut_off)?;
                Values::F32(read.into_iter().map(|value| value as f32).collect())
            }
        };
        let lines = (self.read + 1..=self.read + rows).collect();
        self.read += rows;
        Ok(Some(VectorBlock {
            values,
            lines,
            texts: Vec::new(),
            nulls: 0,
            name: self.name.clone(),
            unit: "row",
            position: self.header_bytes + self.read * self.row_bytes(),
        }))
    }
}
