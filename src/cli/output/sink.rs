//! Buffers the bytes of an output, and compresses them.

use std::io::{self, BufWriter, Write};

use flate2::write::GzEncoder;

use crate::cli::input::Compression;

/// The number of bytes that are passed to the compressor in one call. The number is fixed, because the compressed bytes
/// may depend on it.
const PIECE_BYTES: usize = 1 << 16;

type Plain = BufWriter<Box<dyn Write + Send>>;

/// The writer to which output formats write their bytes.
pub struct Sink {
    encoder: Encoder,
    waiting: Vec<u8>,
}

enum Encoder {
    Plain(Plain),
    Gzip(Box<GzEncoder<Plain>>),
    #[cfg(feature = "bulk")]
    Zstd(zstd::Encoder<'static, Plain>),
}

impl Sink {
    pub fn new(bytes: Box<dyn Write + Send>, compression: Option<Compression>) -> io::Result<Self> {
        let plain = BufWriter::with_capacity(PIECE_BYTES, bytes);
        let encoder = match compression {
            None => Encoder::Plain(plain),
            Some(Compression::Gzip) => {
                let encoder = GzEncoder::new(plain, flate2::Compression::default());
                Encoder::Gzip(Box::new(encoder))
            }
            #[cfg(feature = "bulk")]
            Some(Compression::Zstd) => {
                Encoder::Zstd(zstd::Encoder::new(plain, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
            #[cfg(not(feature = "bulk"))]
            Some(Compression::Zstd) => {
                return Err(io::Error::other(".zst files need a build with the feature `bulk`"));
            }
        };
        Ok(Sink { encoder, waiting: Vec::new() })
    }

    /// Completes the compressed data and flushes all bytes.
    pub fn finish(mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut plain = match self.encoder {
            Encoder::Plain(plain) => plain,
            Encoder::Gzip(mut encoder) => {
                encoder.write_all(&waiting)?;
                encoder.finish()?
            }
            #[cfg(feature = "bulk")]
            Encoder::Zstd(mut encoder) => {
                encoder.write_all(&waiting)?;
                encoder.finish()?
            }
        };
        plain.flush()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let encoder: &mut dyn Write = match &mut self.encoder {
            Encoder::Plain(plain) => return plain.write(bytes),
            Encoder::Gzip(encoder) => &mut **encoder,
            #[cfg(feature = "bulk")]
            Encoder::Zstd(encoder) => encoder,
        };
        let taken = bytes.len().min(PIECE_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == PIECE_BYTES {
            encoder.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(taken)
    }

    /// Sends buffered bytes to a reader that may be waiting. If the output is compressed, bytes wait until a full piece
    /// can be compressed.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Plain(plain) => plain.flush(),
            _ => Ok(()),
        }
    }
}
