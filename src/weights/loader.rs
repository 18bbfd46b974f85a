//! Loads tensors: checks, converts and repacks the tensors, and writes the result to a `Destination`.

use safetensors::Dtype;

use crate::convert::{self, Loss};
use crate::dtype::Storage;
use crate::error::Error;
use crate::kernels::layer_norm::Norm;
use crate::kernels::rms_norm::RmsNorm;
use crate::weights::axis::{Axis, Columns};
use crate::weights::destination::Destination;
use crate::weights::lora::LoraPair;
use crate::weights::{Lora, MatrixShape, TensorEntry, WeightFiles};

/// The number of values that are read from a file at a time.
pub(super) const PIECE: usize = 1 << 20;

/// An embedding table. The table is on the GPU, or on the host if the table exceeds the maximum size of a binding.
#[derive(Debug)]
pub(crate) enum Table {
    /// The table is on the GPU. The number is the index of its weight buffer.
    Gpu(usize),
    /// The table is on the host. The table's rows have the storage type of the weights and are padded to a multiple of
    /// four values. For each batch, the rows of the batch's tokens are uploaded.
    Host { bytes: Vec<u8>, row_bytes: usize },
    /// The table belongs on the host, but its values were not read, because the loader only counts sizes.
    Unread { row_bytes: usize },
}

/// Loads the tensors of one module.
pub(crate) struct Loader<'a, 'd> {
    pub(super) files: &'a WeightFiles,
    pub(super) to: &'a mut Destination<'d>,
    pub(super) storage: Storage,
    /// The LoRA that is added to weight matrices and embedding tables, if any.
    pub lora: Option<Lora>,
}

impl<'a, 'd> Loader<'a, 'd> {
    /// Returns a loader that stores weight matrices and embedding tables as `storage`.
    pub fn new(files: &'a WeightFiles, to: &'a mut Destination<'d>, storage: Storage) -> Self {
        Loader { files, to, storage, lora: None }
    }

    /// Loads an embedding table `[rows, width]`.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a wrong shape or unusable values.
    pub fn table(&mut self, name: &str, width: usize) -> Result<Table, Error> {
        let (name, entry) = self.files.find(name)?;
        let rows = match entry.shape[..] {
            [rows, w] if w == width && rows > 0 => rows,
            _ => return Err(self.misshapen(&name, entry, &format!("[rows, {width}]"))),
        };
        let (files, storage) = (self.files, self.storage);
        let pair = self.pair(&name, entry, true)?;
        self.table_of(&name, entry, MatrixShape { rows, width }, |first, count| {
            let piece = MatrixShape { rows: count, width };
            stored_rows(files, storage, (&name, entry, pair.as_ref()), first, piece)
        })
    }

    /// Loads an embedding table from a stored table. Row t of the result is row `rows[t]` of the tensor `name`,
    /// multiplied by `scales[t]`. The tensor may hold 8-bit integers.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::table`].
    pub fn folded_table(
        &mut self,
        name: &str,
        rows: &[usize],
        scales: Option<&[f32]>,
    ) -> Result<Table, Error> {
        let (name, entry) = self.files.find(name)?;
        let [stored, width] = entry.shape[..] else {
            return Err(self.misshapen(&name, entry, "[rows, width]"));
        };
        let values = match entry.dtype {
            _ if self.to.is_counting() => Vec::new(),
            Dtype::I8 => self.files.integers(&name, entry)?.into_iter().map(|v| v as f32).collect(),
            _ => self.files.values(&name, entry, 0, stored * width)?,
        };
        let storage = self.storage;
        self.table_of(&name, entry, MatrixShape { rows: rows.len(), width }, |first, count| {
            let scale = |token: usize| scales.map_or(1.0, |scales| scales[token]);
            let row = |token: usize| &values[rows[token] * width..][..width];
            let values: Vec<f32> = (first..first + count)
                .flat_map(|token| row(token).iter().map(move |value| value * scale(token)))
                .collect();
            let mut bytes = Vec::new();
            let loss = convert::encode(storage, &values, &mut bytes);
            Ok((bytes, loss))
        })
    }

    /// Writes an embedding table piece by piece. `stored` returns the bytes of a piece, given its first row and its
    /// number of rows.
    fn table_of(
        &mut self,
        name: &str,
        entry: &TensorEntry,
        MatrixShape { rows, width }: MatrixShape,
        stored: impl Fn(usize, usize) -> Result<(Vec<u8>, Loss), Error>,
    ) -> Result<Table, Error> {
        let row_bytes = width.next_multiple_of(4) * self.storage.bytes() as usize;
        let total = (rows * row_bytes) as u64;
        let fits = total <= self.to.largest_buffer();
        let weight = if fits { Some(self.to.add(name, total)?) } else { None };
        if !fits {
            self.to.count_host(total);
        }
        if self.to.is_counting() {
            return Ok(weight.map_or(Table::Unread { row_bytes }, Table::Gpu));
        }
        let mut host = Vec::with_capacity(if fits { 0 } else { total as usize });
        let rows_a_piece = (PIECE / width).max(1);
        let mut loss = Loss::default();
        for first in (0..rows).step_by(rows_a_piece) {
            let count = rows_a_piece.min(rows - first);
            let (mut bytes, lost) = stored(first, count)?;
            loss.add(lost);
            let row = width * self.storage.bytes() as usize;
            if row < row_bytes {
                let padded = |row: &[u8]| [row, &vec![0; row_bytes - row.len()]].concat();
                bytes = bytes.chunks_exact(row).flat_map(padded).collect();
            }
            match weight {
                Some(weight) => self.to.write(weight, (first * row_bytes) as u64, &bytes)?,
                None => {
                    host.extend_from_slice(&bytes);
                    self.to.advance(bytes.len());
                }
            }
        }
        self.usable(name, entry, loss)?;
        Ok(match weight {
            Some(weight) => Table::Gpu(weight),
            None => Table::Host { bytes: host, row_bytes },
        })
    }

    /// Loads the weight and bias of a layer normalisation.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn norm(&mut self, base: &str, width: usize, eps: f32) -> Result<Norm, Error> {
        self.norm_with(base, width, eps, true)
    }

    /// Loads a layer normalisation like [`Loader::norm`], but the bias is optional.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::norm`].
    pub fn norm_with(
        &mut self,
        base: &str,
        width: usize,
        eps: f32,
        bias: bool,
    ) -> Result<Norm, Error> {
        let mut upload = |name: String, stored: bool| {
            let values = if stored { self.vector(&name, width)? } else { vec![0.0; width] };
            let padded = crate::kernels::pad_rows(&values, width);
            self.upload(&name, bytemuck::cast_slice(&padded))
        };
        let weight = upload(format!("{base}.weight"), true)?;
        let bias = upload(format!("{base}.bias"), bias)?;
        Ok(Norm { weight, bias, eps })
    }

    /// Loads the weight of a root mean square normalisation.
    ///
    /// # Errors
    /// Returns the errors of [`Loader::scales`].
    pub fn rms_norm(&mut self, base: &str, width: usize, eps: f32) -> Result<RmsNorm, Error> {
        Ok(RmsNorm { weight: self.scales(&[base], Axis::plain(width), false)?, eps })
    }

    /// Loads the weights of root mean square normalisations as one buffer `[norms, width]`. Each row is padded, with
    /// its values in the order of `columns`. If `plus_one` is true, 1 is added to each weight.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn scales(
        &mut self,
        bases: &[&str],
        columns: impl Into<Columns>,
        plus_one: bool,
    ) -> Result<usize, Error> {
        let columns = columns.into();
        let width = columns.axis.padded();
        let mut padded = vec![0.0; bases.len() * width];
        for (base, padded) in bases.iter().zip(padded.chunks_exact_mut(width)) {
            let values = self.vector(&format!("{base}.weight"), columns.axis.len())?;
            for (i, value) in values.iter().enumerate() {
                padded[columns.position(i)] = value + f32::from(u8::from(plus_one));
            }
        }
        let name = bases.first().copied().unwrap_or_default();
        self.upload(name, bytemuck::cast_slice(&padded))
    }

    /// Returns a small matrix `[rows, width]`, with values rounded to the storage type of the weights.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn host_matrix(&self, name: &str, shape: MatrixShape) -> Result<Vec<f32>, Error> {
        let MatrixShape { rows, width } = shape;
        let (name, entry) = self.files.find(name)?;
        self.shaped(&name, entry, &[rows, width])?;
        if self.to.is_counting() {
            return Ok(vec![0.0; rows * width]);
        }
        let values = self.files.values(&name, entry, 0, rows * width)?;
        let mut bytes = Vec::new();
        let loss = convert::encode(self.storage, &values, &mut bytes);
        self.usable(&name, entry, loss)?;
        Ok(convert::decode(self.storage, &bytes))
    }

    pub(super) fn pair(
        &self,
        name: &str,
        entry: &TensorEntry,
        table: bool,
    ) -> Result<Option<LoraPair>, Error> {
        let lora = self.lora.filter(|_| !self.to.is_counting());
        lora.map(|lora| lora.pair(self.files, name, entry, table)).transpose()
    }

    pub(super) fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, Error> {
        let (name, entry) = self.files.find(name)?;
        self.shaped(&name, entry, &[width])?;
        if self.to.is_counting() {
            return Ok(vec![0.0; width]);
        }
        let values = self.files.values(&name, entry, 0, width)?;
        let loss = convert::encode(Storage::F32, &values, &mut Vec::new());
        self.usable(&name, entry, loss)?;
        Ok(values)
    }

    pub(super) fn upload(&mut self, name: &str, bytes: &[u8]) -> Result<usize, Error> {
        let weight = self.to.add(name, bytes.len() as u64)?;
        self.to.write(weight, 0, bytes)?;
        Ok(weight)
    }

    pub(super) fn shaped(
        &self,
        name: &str,
        entry: &TensorEntry,
        shape: &[usize],
    ) -> Result<(), Error> {
        if entry.shape == shape {
            return Ok(());
        }
        Err(self.misshapen(name, entry, &format!("{shape:?}")))
    }

    fn misshapen(&self, name: &str, entry: &TensorEntry, expected: &str) -> Error {
        let problem = format!(
            "has shape {:?}, but {} needs {expected}; the files belong to different models",
            entry.shape,
            self.files.config()
        );
        Error::tensor(self.files.file_of(entry), name, problem)
    }

    pub(super) fn usable(&self, name: &str, entry: &TensorEntry, loss: Loss) -> Result<(), Error> {
        let file = self.files.file_of(entry);
        if loss.non_finite > 0 {
            let problem = format!(
                "holds {} values that are infinite or not a number; download the file again",
                loss.non_finite
            );
            return Err(Error::tensor(file, name, problem));
        }
        if let Some(value) = loss.first_overflow {
            let problem = format!(
                "holds {value}, but the largest {} value is {}; use bfloat16 or float32",
                self.storage,
                self.storage.max()
            );
            return Err(Error::tensor(file, name, problem));
        }
        if loss.flushed > 0 {
            tracing::debug!(
                tensor = name,
                flushed = loss.flushed,
                largest = f64::from(loss.largest),
                "some values of the tensor became zero or subnormal in {}",
                self.storage
            );
        }
        Ok(())
    }
}

/// Returns rows of a tensor in the given storage type, and the losses from rounding. If there is a LoRA pair, its
/// product is added before rounding.
pub(super) fn stored_rows(
    files: &WeightFiles,
    storage: Storage,
    (name, entry, pair): (&str, &TensorEntry, Option<&LoraPair>),
    first: usize,
    MatrixShape { rows, width }: MatrixShape,
) -> Result<(Vec<u8>, Loss), Error> {
    let (at, count) = (first * width, rows * width);
    if pair.is_none()
        && let Some(bytes) = files.stored_as(storage, name, entry, at, count)?
    {
        let loss = Loss::none_of(storage, &bytes);
        return Ok((bytes, loss));
    }
    let mut values = files.values(name, entry, at, count)?;
    if let Some(pair) = pair {
        pair.add(first, &mut values);
    }
    let mut bytes = Vec::new();
    let loss = convert::encode(storage, &values, &mut bytes);
    Ok((bytes, loss))
}
