//! Writes rows as a NumPy array.

use std::io::Write;

use vectile::{OutputPrecision, Quantized};

use super::block::{Block, VectorValues};
use super::row_format::{RowFormat, WriteError};
use super::sink::Sink;

/// Length of the NumPy header in bytes, a multiple of 64.
const HEADER_BYTES: usize = 128;

/// Writes the numbers of an array without its header. The header holds the number of rows, so it is made after the last
/// row: see [`header`].
pub struct NpyWriter {
    pub out: Sink,
}

impl RowFormat for NpyWriter {
    fn write(&mut self, _: &Block, vectors: &VectorValues) -> Result<(), WriteError> {
        let VectorValues::Dense(_, rows) = vectors else {
            return Err(WriteError::Io(std::io::Error::other(
                "a NumPy array holds dense vectors only",
            )));
        };
        let out = &mut self.out;
        Ok(match rows {
            Quantized::Float32(values) => {
                values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
            }
            Quantized::Float16(values) => {
                values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
            }
            Quantized::Int8(values) => {
                values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
            }
            Quantized::Uint8(values) => out.write_all(values),
        }?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.out.finish()?)
    }
}

/// Returns the header of a two-dimensional array, in version 1.0 of the NumPy format.
pub fn header(precision: OutputPrecision, rows: u64, columns: usize) -> [u8; HEADER_BYTES] {
    let descr = match precision {
        OutputPrecision::Float32 => "<f4",
        OutputPrecision::Float16 => "<f2",
        OutputPrecision::Int8 | OutputPrecision::Binary => "|i1",
        OutputPrecision::Uint8 | OutputPrecision::Ubinary => "|u1",
    };
    let dict =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let mut header = [b' '; HEADER_BYTES];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&((HEADER_BYTES - 10) as u16).to_le_bytes());
    // The text has 55 bytes and two numbers of at most 20 digits, so it fits into HEADER_BYTES.
    header[10..10 + dict.len()].copy_from_slice(dict.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}
