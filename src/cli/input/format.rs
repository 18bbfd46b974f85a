//! What a file is by its name, and its bytes without compression.

use std::fs;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::delimited::Delimited;
use super::lines::Lines;
use super::{Reader, Wanted};
use crate::cli::args::InputFormat;
use crate::cli::failure::Failure;

/// A file of texts, not open yet.
#[derive(Debug, Clone)]
pub struct File {
    pub path: PathBuf,
    /// How messages call it.
    pub name: Arc<str>,
    pub format: InputFormat,
    pub compression: Option<Compression>,
    /// Its length; `None` for stdin, pipes and devices.
    pub bytes: Option<u64>,
}

/// How a file of lines is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// What the last extension of a name says, and the name without it.
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

/// What a line is in a file of this name; `None` where the name says that it has none.
pub fn format_of(path: &Path) -> Option<InputFormat> {
    let (compression, path) = Compression::of(path);
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => Some(InputFormat::Jsonl),
        "csv" => Some(InputFormat::Csv),
        "tsv" => Some(InputFormat::Tsv),
        "parquet" if compression.is_none() => Some(InputFormat::Parquet),
        "arrow" | "arrows" | "feather" | "ipc" if compression.is_none() => Some(InputFormat::Arrow),
        "parquet" | "arrow" | "arrows" | "feather" | "ipc" => None,
        "json" | "npy" | "npz" | "zip" | "bz2" | "xz" | "7z" | "pdf" | "docx" | "xlsx" => None,
        _ => Some(InputFormat::Txt),
    }
}

impl File {
    /// What is to be read as texts, or why it cannot be.
    pub fn find(path: &Path, wanted: &Wanted) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let format = match wanted.format {
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
                "stdin: Parquet and Arrow are read from files; give a file, or lines on stdin",
            ));
        }
        let compression = if stdin || columns { None } else { Compression::of(path).0 };
        #[cfg(not(feature = "bulk"))]
        if compression == Some(Compression::Zstd) {
            return Err(Failure::without_bulk(path, ".zst files"));
        }
        if stdin {
            let (path, name) = (PathBuf::from("stdin"), Arc::from("stdin"));
            return Ok(File { path, name, format, compression, bytes: None });
        }
        let unreadable = |e: io::Error| Failure::file(path, "read", &e);
        let about = fs::metadata(path).map_err(unreadable)?;
        if about.is_dir() {
            let name = path.display();
            return Err(Failure::user(format!("{name}: is a directory; give a file")));
        }
        let bytes = about.is_file().then_some(about.len());
        let name = Arc::from(path.display().to_string());
        Ok(File { path: path.to_owned(), name, format, compression, bytes })
    }

    /// A reader of its rows.
    pub fn open(&self, wanted: &Wanted) -> Result<Box<dyn Reader>, Failure> {
        Ok(match self.format {
            InputFormat::Txt | InputFormat::Jsonl => Box::new(Lines::open(self, wanted)?),
            InputFormat::Csv | InputFormat::Tsv => Box::new(Delimited::open(self, wanted)?),
            #[cfg(feature = "bulk")]
            InputFormat::Parquet => Box::new(super::columns::Parquet::open(self, wanted)?),
            #[cfg(feature = "bulk")]
            InputFormat::Arrow => Box::new(super::columns::Ipc::open(self, wanted)?),
            #[cfg(not(feature = "bulk"))]
            InputFormat::Parquet | InputFormat::Arrow => {
                return Err(Failure::without_bulk(&self.path, "Parquet and Arrow files"));
            }
        })
    }

    /// Its bytes without compression, and a count of those that were read of the file.
    pub fn bytes(&self) -> Result<(Bytes, Arc<AtomicU64>), Failure> {
        let failed = |e: io::Error| Failure::file(&self.path, "read", &e);
        let file: Box<dyn Read + Send> = match self.bytes.is_none() && &*self.name == "stdin" {
            true => Box::new(io::stdin()),
            false => Box::new(fs::File::open(&self.path).map_err(failed)?),
        };
        let counted = Counted::new(file);
        let count = counted.count.clone();
        let plain: Box<dyn Read + Send> = match self.compression {
            None => Box::new(counted),
            Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(BufReader::new(counted))),
            #[cfg(feature = "bulk")]
            Some(Compression::Zstd) => Box::new(zstd::Decoder::new(counted).map_err(failed)?),
            #[cfg(not(feature = "bulk"))]
            Some(Compression::Zstd) => {
                return Err(Failure::without_bulk(&self.path, ".zst files"));
            }
        };
        Ok((BufReader::with_capacity(1 << 16, plain), count))
    }
}

/// Counts what is read.
pub struct Counted<R> {
    inner: R,
    pub count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub fn new(inner: R) -> Self {
        Counted { inner, count: Arc::default() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

fn no_texts(path: &Path) -> Failure {
    Failure::user(format!(
        "{}: holds no texts by its name; give a .txt file with a text a line, a .jsonl file with an \
         object a line, .csv, .tsv, .parquet or .arrow with a column of texts, or say what a line is \
         with --input-format",
        path.display()
    ))
}

/// Bytes of a file, buffered.
pub type Bytes = BufReader<Box<dyn Read + Send>>;
