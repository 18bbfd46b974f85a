//! Input files. Finds the format of a file by its name, and reads and decompresses the file's bytes.

use std::fs;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::cli::args::InputFormat;
use crate::cli::failure::Failure;

/// An input file that is not open yet.
#[derive(Debug, Clone)]
pub struct InputFile {
    pub path: PathBuf,
    /// The name of the file for messages.
    pub name: Arc<str>,
    pub format: InputFormat,
    pub compression: Option<Compression>,
    /// The length in bytes, or `None` for stdin, pipes and devices.
    pub bytes: Option<u64>,
}

/// The compression of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// Returns the compression that the last extension names, and the path without that extension.
    pub fn of(path: &Path) -> (Option<Self>, PathBuf) {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let compression = match extension.as_str() {
            "gz" => Compression::Gzip,
            "zst" => Compression::Zstd,
            _ => return (None, path.to_owned()),
        };
        (Some(compression), path.with_extension(""))
    }
}

/// Returns the format that the extension of a file's name indicates, or `None` if files with this extension hold no
/// texts.
pub fn format_of(path: &Path) -> Option<InputFormat> {
    let (compression, path) = Compression::of(path);
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => Some(InputFormat::Jsonl),
        "json" => Some(InputFormat::Json),
        "csv" => Some(InputFormat::Csv),
        "tsv" => Some(InputFormat::Tsv),
        "parquet" if compression.is_none() => Some(InputFormat::Parquet),
        "arrow" | "arrows" | "feather" | "ipc" if compression.is_none() => Some(InputFormat::Arrow),
        "parquet" | "arrow" | "arrows" | "feather" | "ipc" => None,
        "npy" | "npz" | "zip" | "bz2" | "xz" | "7z" | "pdf" | "docx" | "xlsx" => None,
        _ => Some(InputFormat::Txt),
    }
}

/// A buffered reader of the decompressed bytes of a file.
pub type TextBytes = BufReader<Box<dyn Read + Send>>;

impl InputFile {
    /// Checks that texts can be read from a path, which may be `-` for stdin. If `format` is given, the extension of
    /// the path is ignored.
    pub fn find(path: &Path, format: Option<InputFormat>) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let format = match format {
            Some(format) => format,
            None if stdin => InputFormat::Txt,
            None => format_of(path).ok_or_else(|| no_texts(path))?,
        };
        let columns = matches!(format, InputFormat::Parquet | InputFormat::Arrow);
        #[cfg(not(feature = "bulk"))]
        if columns {
            return Err(Failure::without_bulk(path, "Parquet and Arrow files"));
        }
        if columns && stdin {
            return Err(Failure::user(
                "stdin: Parquet and Arrow cannot be read from stdin; give files with --input",
            ));
        }
        let compression = if stdin || columns { None } else { Compression::of(path).0 };
        #[cfg(not(feature = "bulk"))]
        if compression == Some(Compression::Zstd) {
            return Err(Failure::without_bulk(path, ".zst files"));
        }
        if stdin {
            let (path, name) = (PathBuf::from("stdin"), Arc::from("stdin"));
            return Ok(InputFile { path, name, format, compression, bytes: None });
        }
        let unreadable = |e: io::Error| Failure::file(path, "read", &e);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            let name = path.display();
            return Err(Failure::user(format!("{name}: is a directory; give a file")));
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        let name = Arc::from(path.display().to_string());
        Ok(InputFile { path: path.to_owned(), name, format, compression, bytes })
    }

    /// Opens the file. The returned counter is the number of bytes read from the file, before decompression.
    pub fn open(&self) -> Result<(TextBytes, Arc<AtomicU64>), Failure> {
        let failed = |e: io::Error| Failure::file(&self.path, "read", &e);
        let file: Box<dyn Read + Send> = match self.bytes.is_none() && &*self.name == "stdin" {
            true => Box::new(io::stdin()),
            false => Box::new(fs::File::open(&self.path).map_err(failed)?),
        };
        let counting = CountingReader::new(file);
        let count = counting.count.clone();
        let plain: Box<dyn Read + Send> = match self.compression {
            None => Box::new(counting),
            Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(BufReader::new(counting))),
            #[cfg(feature = "bulk")]
            Some(Compression::Zstd) => Box::new(zstd::Decoder::new(counting).map_err(failed)?),
            #[cfg(not(feature = "bulk"))]
            Some(Compression::Zstd) => {
                return Err(Failure::without_bulk(&self.path, ".zst files"));
            }
        };
        Ok((BufReader::with_capacity(1 << 16, plain), count))
    }
}

/// A reader that counts the bytes it reads, and repeats a read that a signal has interrupted.
pub struct CountingReader<R> {
    inner: R,
    pub count: Arc<AtomicU64>,
}

impl<R> CountingReader<R> {
    pub fn new(inner: R) -> Self {
        CountingReader { inner, count: Arc::default() }
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for CountingReader<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn no_texts(path: &Path) -> Failure {
    Failure::user(format!(
        "{}: files with this extension are not read as texts; give a file of one text per line (.txt), JSON \
         lines (.jsonl), .json, .csv, .tsv, .parquet or .arrow, or name the format with --input-format",
        path.display()
    ))
}
