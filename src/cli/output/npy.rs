//! Rows as a NumPy array.

use std::io::Write;

use vectile::{OutputPrecision, Quantized};

use super::sink::Sink;
use super::{Block, Cells, RowFormat, WriteError};

/// Bytes of the NumPy header: a multiple of 64.
const HEADER: usize = 128;

/// The numbers of an array, without its header, which needs to know how many there are.
pub struct Npy {
    pub out: Sink,
}

impl RowFormat for Npy {
    fn write(&mut self, _: &Block, cells: &Cells) -> Result<(), WriteError> {
        let Cells::Dense(_, rows) = cells else {
            return Err(WriteError::Io(std::io::Error::other("sparse vectors in an array")));
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

/// Version 1.0 of the NumPy format.
pub fn header(precision: OutputPrecision, rows: u64, columns: usize) -> [u8; HEADER] {
    let descr = match precision {
        OutputPrecision::Float32 => "<f4",
        OutputPrecision::Float16 => "<f2",
        OutputPrecision::Int8 | OutputPrecision::Binary => "|i1",
        OutputPrecision::Uint8 | OutputPrecision::Ubinary => "|u1",
    };
    let dict =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let mut header = [b' '; HEADER];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&((HEADER - 10) as u16).to_le_bytes());
    // 55 bytes and two numbers of at most 20 digits: it fits.
    header[10..10 + dict.len()].copy_from_slice(dict.as_bytes());
    header[HEADER - 1] = b'\n';
    header
}
