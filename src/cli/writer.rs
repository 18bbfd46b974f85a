//! Rows as JSON lines or as a NumPy array, into stdout or a file that appears when it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vectile::{OutputPrecision, Quantized};

use super::args::OutputFormat;
use super::failure::Failure;
use super::interrupt::Interrupt;

/// Bytes of the NumPy header: a multiple of 64, with room for any number of rows, so that it can
/// be written again when that is known.
const HEADER: usize = 128;

/// Where rows go.
pub enum Destination {
    Stdout,
    /// A device or a named pipe, which is written as it is.
    Special(PathBuf, File),
    /// `FILE.part`, which becomes `FILE`.
    Whole(Part, File),
}

/// A file under its temporary name. Dropped before it is kept, it is removed.
pub struct Part {
    part: PathBuf,
    path: PathBuf,
    kept: bool,
    interrupt: Interrupt,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to tell, and the name says what it is.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl Destination {
    /// Opens the output; `-` is stdout. `input` is what must not be overwritten.
    pub fn new(
        output: &Path,
        input: Option<&Path>,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        if output == Path::new("-") {
            return Ok(Destination::Stdout);
        }
        let failed = |e: io::Error| Failure::file(output, "written", &e);
        // A link stays a link: the file it names is replaced.
        let path = match output.canonicalize() {
            Ok(path) => path,
            Err(e) if e.kind() == io::ErrorKind::NotFound => output.to_owned(),
            Err(e) => return Err(failed(e)),
        };
        if path.is_dir() {
            let name = output.display();
            return Err(Failure::user(format!("{name}: is a directory; give a file")));
        }
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Destination::Special(path, file));
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        if input.is_some_and(|input| same_file(input, &path) || same_file(input, &part)) {
            return Err(Failure::user(format!(
                "{}: is the input, which would be overwritten; give another --output",
                output.display()
            )));
        }
        let file = File::create(&part).map_err(|e| Failure::file(&part, "written", &e))?;
        interrupt.set_unfinished(Some(&part));
        let part = Part { part, path, kept: false, interrupt: interrupt.clone() };
        Ok(Destination::Whole(part, file))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A temporary file that has no name and goes with the process, and the directory it takes space
/// in: that of `output`, which has room for the rows, or the system's.
pub fn temporary(output: &Path) -> Result<(File, PathBuf), Failure> {
    let directory = match output.parent() {
        Some(parent) if output.is_file() || !output.exists() => match parent == Path::new("") {
            true if output == Path::new("-") => std::env::temp_dir(),
            true => PathBuf::from("."),
            false => parent.to_owned(),
        },
        _ => std::env::temp_dir(),
    };
    match tempfile::tempfile_in(&directory) {
        Ok(file) => Ok((file, directory)),
        Err(e) => {
            let name = directory.display();
            Err(Failure::user(format!("{name}: a temporary file cannot be made there: {e}")))
        }
    }
}

/// Writes rows.
pub struct RowWriter {
    // Before `part`, so that the file is closed when it is removed.
    out: BufWriter<Box<dyn Write>>,
    place: Place,
    /// A NumPy array's own file, whose header is written last, and where it is copied then.
    array: Option<(File, Option<Box<dyn Write>>)>,
    part: Option<(Part, File)>,
    precision: OutputPrecision,
    columns: usize,
    rows: u64,
}

/// What a failed write is about.
enum Place {
    Stdout,
    File(PathBuf),
}

impl Place {
    fn failed(&self, error: &io::Error) -> Failure {
        match self {
            Place::Stdout => Failure::stdout(error),
            Place::File(path) => Failure::file(path, "written", error),
        }
    }
}

impl RowWriter {
    /// Writes a row that is an object of its own, made from the row's number.
    pub fn object<T: Serialize>(&mut self, row: impl FnOnce(u64) -> T) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.out, &row(self.rows));
        written
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|e| self.place.failed(&e))?;
        self.rows += 1;
        Ok(())
    }

    /// A writer of rows of `dim` values, before they are stored in `precision`.
    pub fn new(
        destination: Destination,
        format: OutputFormat,
        precision: OutputPrecision,
        dim: usize,
    ) -> Result<Self, Failure> {
        let (place, sink, part) = match destination {
            Destination::Stdout => (Place::Stdout, Box::new(io::stdout()) as Box<dyn Write>, None),
            Destination::Special(path, file) => (Place::File(path), Box::new(file) as _, None),
            Destination::Whole(part, file) => {
                let place = Place::File(part.part.clone());
                let sink = file.try_clone().map_err(|e| place.failed(&e))?;
                (place, Box::new(sink) as _, Some((part, file)))
            }
        };
        let (sink, array) = match (format, &part) {
            (OutputFormat::Jsonl, _) => (sink, None),
            (OutputFormat::Npy, Some((_, file))) => {
                (sink, Some((file.try_clone().map_err(|e| place.failed(&e))?, None)))
            }
            // What cannot be gone back in gets the array when its header is known.
            (OutputFormat::Npy, None) => {
                let (file, _) = temporary(Path::new("-"))?;
                let spool = file.try_clone().map_err(|e| place.failed(&e))?;
                (Box::new(spool) as _, Some((file, Some(sink))))
            }
        };
        let columns = precision.columns(dim);
        let out = BufWriter::with_capacity(1 << 16, sink);
        let mut writer = RowWriter { out, place, array, part, precision, columns, rows: 0 };
        if writer.array.is_some() {
            let header = writer.header();
            writer.out.write_all(&header).map_err(|e| writer.place.failed(&e))?;
        }
        Ok(writer)
    }

    /// Writes rows after those written before.
    pub fn write(&mut self, rows: &Quantized) -> Result<(), Failure> {
        let written = match (self.array.is_some(), rows) {
            (false, Quantized::Float32(values)) => self.json(values, |v| *v),
            (false, Quantized::Float16(values)) => self.json(values, |v| v.to_f32()),
            (false, Quantized::Int8(values)) => self.json(values, |v| *v),
            (false, Quantized::Uint8(values)) => self.json(values, |v| *v),
            (true, Quantized::Float32(values)) => self.binary(values, |v| v.to_le_bytes()),
            (true, Quantized::Float16(values)) => self.binary(values, |v| v.to_le_bytes()),
            (true, Quantized::Int8(values)) => self.binary(values, |v| v.to_le_bytes()),
            (true, Quantized::Uint8(values)) => self.binary(values, |v| v.to_le_bytes()),
        };
        written.map_err(|e| self.place.failed(&e))
    }

    /// Numbers as short as they can be and still be read back to the same bits.
    fn json<T, N: Serialize>(&mut self, values: &[T], number: impl Fn(&T) -> N) -> io::Result<()> {
        for row in values.chunks_exact(self.columns) {
            write!(self.out, "{{\"index\":{},\"embedding\":[", self.rows)?;
            for (column, value) in row.iter().enumerate() {
                if column > 0 {
                    self.out.write_all(b",")?;
                }
                serde_json::to_writer(&mut self.out, &number(value))?;
            }
            self.out.write_all(b"]}\n")?;
            self.rows += 1;
        }
        Ok(())
    }

    fn binary<T, const N: usize>(
        &mut self,
        values: &[T],
        bytes: impl Fn(&T) -> [u8; N],
    ) -> io::Result<()> {
        self.rows += (values.len() / self.columns) as u64;
        values.iter().try_for_each(|value| self.out.write_all(&bytes(value)))
    }

    /// Version 1.0 of the NumPy format.
    fn header(&self) -> [u8; HEADER] {
        let descr = match self.precision {
            OutputPrecision::Float32 => "<f4",
            OutputPrecision::Float16 => "<f2",
            OutputPrecision::Int8 | OutputPrecision::Binary => "|i1",
            OutputPrecision::Uint8 | OutputPrecision::Ubinary => "|u1",
        };
        let (rows, columns) = (self.rows, self.columns);
        let dict = format!(
            "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
        );
        let mut header = [b' '; HEADER];
        header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
        header[8..10].copy_from_slice(&((HEADER - 10) as u16).to_le_bytes());
        // 55 bytes and two numbers of at most 20 digits: it fits.
        header[10..10 + dict.len()].copy_from_slice(dict.as_bytes());
        header[HEADER - 1] = b'\n';
        header
    }

    /// Sends what is buffered on its way, where a reader may be waiting for it.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|e| self.place.failed(&e))
    }

    /// Ends the output, and gives the file its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        let header = self.header();
        if let Some((file, copy)) = &mut self.array {
            let ended = file.rewind().and_then(|()| file.write_all(&header)).and_then(|()| {
                let Some(to) = copy else { return Ok(()) };
                file.rewind()?;
                io::copy(file, to)?;
                to.flush()
            });
            ended.map_err(|e| self.place.failed(&e))?;
        }
        let Some((mut part, file)) = self.part.take() else { return Ok(()) };
        // On the disk before it has its name, or a power cut could leave an empty FILE.
        file.sync_all().map_err(|e| self.place.failed(&e))?;
        std::fs::rename(&part.part, &part.path)
            .map_err(|e| Failure::file(&part.path, "written", &e))?;
        part.kept = true;
        part.interrupt.set_unfinished(None);
        Ok(())
    }
}
