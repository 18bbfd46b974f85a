//! Reads the texts of arguments or of any number of files, one after the other.

use std::path::{Path, PathBuf};

use super::chunk::{Chunk, ReadOptions, RowReader};
use super::delimited::Delimited;
use super::file::InputFile;
use super::json::JsonObjects;
use super::lines::Lines;
use crate::cli::args::{InputFormat, LineArgs};
use crate::cli::carried::{CarriedSchema, Carry};
use crate::cli::failure::Failure;

/// Reads texts in chunks, from the arguments or from one file after the other.
pub struct TextSource {
    rows: Input,
    /// A chunk that was read and put back.
    next: Option<Chunk>,
}

enum Input {
    Arguments { texts: std::vec::IntoIter<String>, taken: u64 },
    Files(Files),
}

struct Files {
    options: ReadOptions,
    files: Vec<InputFile>,
    /// The number of files that were opened.
    opened: usize,
    /// The reader of the open file, or `None` after the last file.
    reader: Option<Box<dyn RowReader>>,
    /// The total size of the files before the open file, in bytes.
    bytes_before: u64,
}

impl TextSource {
    /// Returns a source of the texts that are given as arguments.
    pub fn arguments(texts: Vec<String>) -> Self {
        TextSource { rows: Input::Arguments { texts: texts.into_iter(), taken: 0 }, next: None }
    }

    /// Opens a file, or stdin if the path is `-`. No columns are copied.
    pub fn open(path: &Path, args: &LineArgs) -> Result<Self, Failure> {
        TextSource::open_all(&[path.to_owned()], args, Carry::none())
    }

    /// Opens files of the same format, which are read one after the other. `carry` selects the columns to copy. The
    /// path `-` means stdin.
    pub fn open_all(paths: &[PathBuf], args: &LineArgs, carry: Carry) -> Result<Self, Failure> {
        TextSource::open_with(paths, ReadOptions::new(args, carry))
    }

    /// Opens files like [`TextSource::open_all`], with any options.
    pub fn open_with(paths: &[PathBuf], options: ReadOptions) -> Result<Self, Failure> {
        let files = paths.iter().map(|path| InputFile::find(path, options.format));
        let files = files.collect::<Result<Vec<InputFile>, Failure>>()?;
        if let Some(other) = files.iter().find(|file| file.format != files[0].format) {
            return Err(Failure::user(format!(
                "{}: has another format than {}; give files of one format, or name the format with \
                 --input-format",
                other.path.display(),
                files[0].path.display()
            )));
        }
        if let (Some(option), Some(file)) = (options.dialect.first_option(), files.first())
            && !matches!(file.format, InputFormat::Csv | InputFormat::Tsv)
        {
            return Err(Failure::user(format!(
                "{option}: {} is read as {}, and this option is only for CSV and TSV; leave {option} out, \
                 or give --input-format csv",
                file.name,
                file.format.name()
            )));
        }
        let mut files = Files { options, files, opened: 0, reader: None, bytes_before: 0 };
        // The first file is opened here, so that its errors are reported before a model is loaded.
        files.open_next()?;
        Ok(TextSource { rows: Input::Files(files), next: None })
    }

    /// Returns the next rows, up to `max_rows`, or `None` at the end.
    pub fn next_chunk(&mut self, max_rows: usize) -> Result<Option<Chunk>, Failure> {
        if let Some(chunk) = self.next.take() {
            return Ok(Some(chunk));
        }
        match &mut self.rows {
            Input::Arguments { texts, taken } => {
                let mut chunk = Chunk::default();
                for text in texts.take(max_rows) {
                    *taken += 1;
                    let bytes = text.len();
                    chunk.push(*taken, Ok(text), bytes);
                }
                chunk.unit = "text";
                Ok((!chunk.texts.is_empty()).then_some(chunk))
            }
            Input::Files(files) => files.next_chunk(max_rows),
        }
    }

    /// Puts a chunk back, so that [`TextSource::next_chunk`] returns it again.
    pub fn put_back(&mut self, chunk: Chunk) {
        self.next = Some(chunk);
    }

    /// Returns all texts that were not read yet.
    ///
    /// # Errors
    /// Fails if a row has no text.
    pub fn read_all(mut self) -> Result<Vec<String>, Failure> {
        let mut texts = Vec::new();
        while let Some(chunk) = self.next_chunk(usize::MAX)? {
            texts.extend(chunk.into_texts()?);
        }
        Ok(texts)
    }

    /// Skips rows that an earlier run has embedded.
    ///
    /// # Errors
    /// Fails if the input has fewer rows.
    pub fn skip(&mut self, rows: u64) -> Result<(), Failure> {
        let mut left = rows;
        if let Input::Files(files) = &mut self.rows {
            while let Some(reader) = &mut files.reader {
                left -= reader.skip(left)?;
                if left == 0 {
                    return Ok(());
                }
                files.open_next()?;
            }
        }
        Err(Failure::user(format!(
            "the input has {} rows, but the interrupted run embedded {rows} rows, so the input has \
             changed; restore the input, or remove the directory OUTPUT.parts to start again",
            rows - left
        )))
    }

    /// Returns the columns to copy, as found in the first file.
    pub fn schema(&self) -> CarriedSchema {
        match &self.rows {
            Input::Files(Files { options, reader: Some(reader), .. })
                if !options.carry.is_none() =>
            {
                reader.schema()
            }
            _ => CarriedSchema::None,
        }
    }

    /// Returns the files that can be read again. Stdin, pipes and devices are left out.
    pub fn regular_files(&self) -> Vec<&Path> {
        let regular = self.files().iter().filter(|file| file.bytes.is_some());
        regular.map(|file| file.path.as_path()).collect()
    }

    /// Returns true if the whole input can be read a second time from the start.
    pub fn is_repeatable(&self) -> bool {
        !self.files().is_empty() && self.files().iter().all(|file| file.bytes.is_some())
    }

    /// Returns the number of bytes that were read.
    pub fn position(&self) -> u64 {
        match &self.rows {
            Input::Arguments { .. } => 0,
            Input::Files(files) => {
                files.bytes_before + files.reader.as_ref().map_or(0, |reader| reader.position())
            }
        }
    }

    /// Returns the length of the input in bytes, if known.
    pub fn total_bytes(&self) -> Option<u64> {
        match self.files() {
            [] => None,
            files => files.iter().map(|file| file.bytes).sum(),
        }
    }

    fn files(&self) -> &[InputFile] {
        match &self.rows {
            Input::Arguments { .. } => &[],
            Input::Files(files) => &files.files,
        }
    }
}

impl Files {
    fn next_chunk(&mut self, max_rows: usize) -> Result<Option<Chunk>, Failure> {
        let mut chunk = Chunk::default();
        while let Some(reader) = &mut self.reader {
            reader.fill(&mut chunk, max_rows)?;
            if !chunk.texts.is_empty() {
                chunk.position = self.bytes_before + reader.position();
                chunk.name = Some(self.files[self.opened - 1].name.clone());
                chunk.unit = reader.unit();
                return Ok(Some(chunk));
            }
            self.open_next()?;
        }
        Ok(None)
    }

    fn open_next(&mut self) -> Result<(), Failure> {
        if let Some(last) = self.opened.checked_sub(1).and_then(|last| self.files.get(last)) {
            self.bytes_before += last.bytes.unwrap_or_default();
        }
        self.reader = match self.files.get(self.opened) {
            Some(file) => Some(open(file, &self.options)?),
            None => None,
        };
        self.opened += usize::from(self.reader.is_some());
        Ok(())
    }
}

/// Returns a reader for the rows of a file.
fn open(file: &InputFile, options: &ReadOptions) -> Result<Box<dyn RowReader>, Failure> {
    Ok(match file.format {
        InputFormat::Txt | InputFormat::Jsonl => Box::new(Lines::open(file, options)?),
        InputFormat::Json => Box::new(JsonObjects::open(file, options)?),
        InputFormat::Csv | InputFormat::Tsv => Box::new(Delimited::open(file, options)?),
        #[cfg(feature = "bulk")]
        InputFormat::Parquet => Box::new(super::columns::ParquetReader::open(file, options)?),
        #[cfg(feature = "bulk")]
        InputFormat::Arrow => Box::new(super::columns::ArrowReader::open(file, options)?),
        #[cfg(not(feature = "bulk"))]
        InputFormat::Parquet | InputFormat::Arrow => {
            return Err(Failure::without_bulk(&file.path, "Parquet and Arrow files"));
        }
    })
}
