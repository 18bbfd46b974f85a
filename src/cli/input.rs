//! Texts from arguments, files and stdin, a chunk at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::args::{InputFormat, LineArgs};
use super::failure::Failure;
use super::jsonl;

/// A chunk ends after the text that brings it to this many bytes.
const CHUNK_BYTES: usize = 4 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Texts in their order, and where each of them stood.
#[derive(Debug, Default)]
pub struct Chunk {
    pub texts: Vec<String>,
    /// Of each text, its line in the file, or its number among the arguments; from 1.
    pub lines: Vec<u64>,
}

/// Where texts come from.
pub enum Source {
    /// Given as arguments.
    Arguments(std::vec::IntoIter<String>, u64),
    /// A text a line.
    Lines(Box<Lines>),
}

/// Lines of a file or of stdin.
pub struct Lines {
    name: PathBuf,
    reader: BufReader<Box<dyn Read>>,
    format: InputFormat,
    field: String,
    lossy: bool,
    /// What a read returns may be all there is for a while: better a small chunk than a long wait.
    live: bool,
    total: Option<u64>,
    line: u64,
    bytes: u64,
}

impl Source {
    /// The texts of the command line.
    pub fn arguments(texts: Vec<String>) -> Self {
        Source::Arguments(texts.into_iter(), 0)
    }

    /// A file, or stdin where the path is `-`.
    pub fn open(path: &Path, args: &LineArgs) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let format = match args.input_format {
            Some(format) => format,
            None if stdin => InputFormat::Txt,
            None => format_of(path)?,
        };
        let (reader, total): (Box<dyn Read>, _) = match stdin {
            true => (Box::new(std::io::stdin()), None),
            false => {
                let unreadable = |e: std::io::Error| Failure::file(path, "read", &e);
                let file = File::open(path).map_err(unreadable)?;
                let about = file.metadata().map_err(unreadable)?;
                if about.is_dir() {
                    let name = path.display();
                    return Err(Failure::user(format!("{name}: is a directory; give a file")));
                }
                (Box::new(file), about.is_file().then_some(about.len()))
            }
        };
        Ok(Source::Lines(Box::new(Lines {
            name: if stdin { PathBuf::from("stdin") } else { path.to_owned() },
            reader: BufReader::with_capacity(1 << 16, reader),
            format,
            field: args.field.clone(),
            lossy: args.lossy,
            live: total.is_none(),
            total,
            line: 0,
            bytes: 0,
        })))
    }

    /// The next texts, at most so many; `None` at the end.
    pub fn next_chunk(&mut self, most: usize) -> Result<Option<Chunk>, Failure> {
        let mut chunk = Chunk::default();
        match self {
            Source::Arguments(texts, number) => {
                for text in texts.take(most) {
                    *number += 1;
                    chunk.texts.push(text);
                    chunk.lines.push(*number);
                }
            }
            Source::Lines(lines) => lines.fill(&mut chunk, most)?,
        }
        Ok((!chunk.texts.is_empty()).then_some(chunk))
    }

    /// Where a text stood, for messages.
    pub fn place(&self, line: u64) -> String {
        match self {
            Source::Arguments(..) => format!("text {line}"),
            Source::Lines(lines) => format!("{}: line {line}", lines.name.display()),
        }
    }

    /// Bytes in all, where known.
    pub fn total_bytes(&self) -> Option<u64> {
        match self {
            Source::Arguments(..) => None,
            Source::Lines(lines) => lines.total,
        }
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        match self {
            Source::Arguments(..) => 0,
            Source::Lines(lines) => lines.bytes,
        }
    }
}

/// What a line is in a file of this name.
fn format_of(path: &Path) -> Result<InputFormat, Failure> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" => Ok(InputFormat::Jsonl),
        "json" | "csv" | "tsv" | "parquet" | "npy" | "gz" | "zip" | "zst" | "pdf" | "docx" => {
            Err(Failure::user(format!(
                "{}: a line of a .{extension} file is usually no text; give a .txt file with a text \
                 a line or a .jsonl file with an object a line, or say what a line is with \
                 --input-format txt or --input-format jsonl",
                path.display()
            )))
        }
        _ => Ok(InputFormat::Txt),
    }
}

impl Lines {
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        let mut bytes = 0;
        while chunk.texts.len() < most && bytes < CHUNK_BYTES {
            let Some(line) = self.next_line()? else { break };
            let text = match self.format {
                InputFormat::Txt => line,
                InputFormat::Jsonl if line.trim().is_empty() => continue,
                InputFormat::Jsonl => {
                    jsonl::text_of(&line, &self.field).map_err(|problem| self.refuse(&problem))?
                }
            };
            bytes += text.len();
            chunk.texts.push(text);
            chunk.lines.push(self.line);
            if self.live && self.reader.buffer().is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The next line without what ends it; `None` at the end. A last line without a line end
    /// counts; a byte order mark before the first does not.
    fn next_line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = Vec::new();
        let read = self
            .reader
            .read_until(b'\n', &mut line)
            .map_err(|e| Failure::file(&self.name, "read", &e))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += read as u64;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if self.line == 1 {
            if line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") {
                return Err(self
                    .refuse("the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"));
            }
        }
        match String::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(bad) if self.lossy => {
                Ok(Some(String::from_utf8_lossy(bad.as_bytes()).into_owned()))
            }
            Err(bad) => Err(self.refuse(&format!(
                "byte {} is not UTF-8; convert the file (iconv -t UTF-8) or replace such bytes with \
                 --lossy",
                bad.utf8_error().valid_up_to() + 1
            ))),
        }
    }

    fn refuse(&self, problem: &str) -> Failure {
        Failure::user(format!("{}: line {}: {problem}", self.name.display(), self.line))
    }
}
