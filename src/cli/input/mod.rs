//! Texts from arguments, files and stdin, a chunk at a time.

#[cfg(feature = "bulk")]
mod columns;
mod delimited;
mod format;
mod jsonl;
mod lines;
mod paths;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{InputFormat, LineArgs};
use super::carried::{Carried, Carry, Row, Shape};
use super::failure::Failure;
use format::File;

pub use format::{Compression, format_of};
pub use paths::expand;

/// A chunk ends after the row that brings it to this many bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// Rows in their order, where each of them stood, and what goes with them.
#[derive(Debug, Default)]
pub struct Chunk {
    /// `None` for a row that has none, as `problems` says.
    pub texts: Vec<Option<String>>,
    pub about: About,
}

/// What is known of the rows of a chunk beside their texts.
#[derive(Debug, Default)]
pub struct About {
    /// Of each row, its line or row in the file, or its number among the arguments; from 1.
    pub lines: Vec<u64>,
    /// Rows without a usable text, and what is wrong with them.
    pub problems: Vec<(usize, String)>,
    /// The columns that are carried.
    pub carried: Carried,
    /// Of each row, about how many bytes it is.
    pub weights: Vec<usize>,
    /// Bytes of the input up to the end of the chunk.
    pub position: u64,
    name: Option<Arc<str>>,
    unit: &'static str,
}

impl About {
    /// Where a row stood, for messages.
    pub fn place(&self, row: usize) -> String {
        let number = self.lines.get(row).copied().unwrap_or_default();
        match &self.name {
            Some(name) => format!("{name}: {} {number}", self.unit),
            None => format!("{} {number}", self.unit),
        }
    }

    /// What is wrong with a row, if something is.
    pub fn problem(&self, row: usize) -> Option<&str> {
        self.problems.iter().find(|(at, _)| *at == row).map(|(_, problem)| problem.as_str())
    }
}

impl Chunk {
    /// A text; the empty one where there is none.
    pub fn text(&self, row: usize) -> &str {
        self.texts[row].as_deref().unwrap_or_default()
    }

    /// Its texts, if every row has one.
    pub fn whole(self) -> Result<Vec<String>, Failure> {
        match self.about.problems.first() {
            Some((row, problem)) => {
                Err(Failure::user(format!("{}: {problem}", self.about.place(*row))))
            }
            None => Ok(self.texts.into_iter().flatten().collect()),
        }
    }

    /// Adds a row: where it stood, its text or what is wrong with it, and its bytes.
    fn push(&mut self, line: u64, text: Result<String, String>, bytes: usize) {
        match text {
            Ok(text) => self.texts.push(Some(text)),
            Err(problem) => {
                self.about.problems.push((self.texts.len(), problem));
                self.texts.push(None);
            }
        }
        self.about.lines.push(line);
        self.about.weights.push(bytes);
    }

    /// Adds the columns of the row that was added last.
    fn carry(&mut self, row: Row) {
        match &mut self.about.carried {
            Carried::Rows(rows) => rows.push(row),
            carried => *carried = Carried::Rows(vec![row]),
        }
    }
}

/// The rows of a file in one of the formats.
trait Reader: Send {
    /// Adds rows to an empty chunk: at most so many, and none at the end.
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure>;

    /// Passes over rows, and says how many there were: fewer at the end only.
    fn skip(&mut self, rows: u64) -> Result<u64, Failure>;

    /// What its columns are.
    fn shape(&self) -> Shape;

    /// What a number in a message counts.
    fn unit(&self) -> &'static str {
        "line"
    }

    /// Bytes of the file that were read.
    fn position(&self) -> u64;
}

/// How rows become texts and columns.
#[derive(Debug, Clone)]
struct Wanted {
    format: Option<InputFormat>,
    field: String,
    lossy: bool,
    carry: Carry,
}

/// Where texts come from.
pub struct Source {
    arguments: Option<std::vec::IntoIter<String>>,
    wanted: Wanted,
    files: Vec<File>,
    /// How many of them were opened.
    opened: usize,
    /// The one that is being read.
    reader: Option<Box<dyn Reader>>,
    rows: u64,
    /// Bytes of the files before it.
    before: u64,
}

impl Source {
    /// The texts of the command line.
    pub fn arguments(texts: Vec<String>) -> Self {
        let wanted =
            Wanted { format: None, field: String::new(), lossy: false, carry: Carry::None };
        Source {
            arguments: Some(texts.into_iter()),
            wanted,
            files: Vec::new(),
            opened: 0,
            reader: None,
            rows: 0,
            before: 0,
        }
    }

    /// A file, or stdin where the path is `-`, for its texts alone.
    pub fn open(path: &Path, args: &LineArgs) -> Result<Self, Failure> {
        Source::open_all(&[path.to_owned()], args, Carry::None)
    }

    /// Files of one format, one after the other, with their columns. `-` is stdin.
    pub fn open_all(paths: &[PathBuf], args: &LineArgs, carry: Carry) -> Result<Self, Failure> {
        let wanted = Wanted {
            format: args.input_format,
            field: args.field.clone(),
            lossy: args.lossy,
            carry,
        };
        let files = paths.iter().map(|path| File::find(path, &wanted));
        let files = files.collect::<Result<Vec<File>, Failure>>()?;
        if let Some(other) = files.iter().find(|file| file.format != files[0].format) {
            return Err(Failure::user(format!(
                "{}: is of another format than {}; give files of one format, or say what a line is \
                 with --input-format",
                other.path.display(),
                files[0].path.display()
            )));
        }
        let mut source =
            Source { arguments: None, wanted, files, opened: 0, reader: None, rows: 0, before: 0 };
        // What can be refused is refused at once.
        source.open_next()?;
        Ok(source)
    }

    /// The next rows, at most so many; `None` at the end.
    pub fn next_chunk(&mut self, most: usize) -> Result<Option<Chunk>, Failure> {
        let mut chunk = Chunk::default();
        if let Some(texts) = &mut self.arguments {
            for text in texts.take(most) {
                self.rows += 1;
                let bytes = text.len();
                chunk.push(self.rows, Ok(text), bytes);
            }
            chunk.about.unit = "text";
            return Ok((!chunk.texts.is_empty()).then_some(chunk));
        }
        while let Some(reader) = &mut self.reader {
            reader.fill(&mut chunk, most)?;
            if !chunk.texts.is_empty() {
                chunk.about.position = self.before + reader.position();
                chunk.about.name = Some(self.files[self.opened - 1].name.clone());
                chunk.about.unit = reader.unit();
                return Ok(Some(chunk));
            }
            self.open_next()?;
        }
        Ok(None)
    }

    /// Passes over rows.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn skip(&mut self, rows: u64) -> Result<(), Failure> {
        let mut left = rows;
        while let Some(reader) = &mut self.reader {
            left -= reader.skip(left)?;
            if left == 0 {
                return Ok(());
            }
            self.open_next()?;
        }
        Err(Failure::user(format!(
            "the input has {} rows, and {rows} were embedded already: it is not what it was",
            rows - left
        )))
    }

    fn open_next(&mut self) -> Result<(), Failure> {
        if let Some(last) = self.opened.checked_sub(1).and_then(|last| self.files.get(last)) {
            self.before += last.bytes.unwrap_or_default();
        }
        self.reader = match self.files.get(self.opened) {
            Some(file) => Some(file.open(&self.wanted)?),
            None => None,
        };
        self.opened += usize::from(self.reader.is_some());
        Ok(())
    }

    /// What is known of the columns that are carried: those of the first file.
    pub fn shape(&self) -> Shape {
        match (&self.wanted.carry, &self.reader) {
            (Carry::None, _) | (_, None) => Shape::None,
            (_, Some(reader)) => reader.shape(),
        }
    }

    /// Its files, none for arguments and stdin: what can be read again.
    pub fn files(&self) -> Vec<&Path> {
        self.files.iter().filter(|f| f.bytes.is_some()).map(|f| f.path.as_path()).collect()
    }

    /// True where it can be read again from the start.
    pub fn is_repeatable(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.bytes.is_some())
    }

    /// Bytes that were read.
    pub fn position(&self) -> u64 {
        self.before + self.reader.as_ref().map_or(0, |reader| reader.position())
    }

    /// Bytes in all, where known.
    pub fn total_bytes(&self) -> Option<u64> {
        match self.files.is_empty() {
            true => None,
            false => self.files.iter().map(|file| file.bytes).sum(),
        }
    }
}
