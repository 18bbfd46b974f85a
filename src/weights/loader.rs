//! Tensors → checked, converted, repacked, on the GPU.

use std::ops::Range;

use safetensors::Dtype;

use crate::convert::{self, Loss};
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::kernels::layer_norm::Norm;
use crate::kernels::matmul::{Linear, stride4};
use crate::kernels::rms_norm::RmsNorm;
use crate::weights::adapter::Pair;
use crate::weights::{Adapter, TensorEntry, WeightFiles};

/// Values read from a file at a time.
const PIECE: usize = 1 << 20;
/// Bytes handed to the GPU at a time.
const UPLOAD: usize = 32 << 20;

/// An axis of an activation: `blocks` runs of `block` values, each filled up to whole cells of four.
///
/// A hidden axis is one block; queries, keys and values are a block a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub blocks: usize,
    pub block: usize,
}

impl Axis {
    /// One block.
    pub fn plain(width: usize) -> Self {
        Axis { blocks: 1, block: width }
    }

    /// Values without filling.
    pub fn len(self) -> usize {
        self.blocks * self.block
    }

    /// Values with filling.
    pub fn filled(self) -> usize {
        self.blocks * self.block.next_multiple_of(4)
    }

    /// Where value `i` lies with filling.
    fn place(self, i: usize) -> usize {
        i / self.block * self.block.next_multiple_of(4) + i % self.block
    }
}

/// An embedding table: on the GPU, or on the host where it exceeds one binding.
#[derive(Debug)]
pub(crate) enum Table {
    /// Its number among the model's buffers.
    Gpu(usize),
    /// Rows in the weight storage, filled up to whole cells; gathered for each batch.
    Host { bytes: Vec<u8>, row_bytes: usize },
}

/// Loads the tensors of one safetensors module onto an executor.
pub(crate) struct Loader<'a> {
    files: &'a WeightFiles,
    executor: &'a mut Executor,
    storage: Storage,
    /// Bytes loaded so far.
    pub bytes: u64,
    /// What is added to matrices and tables.
    pub adapter: Option<Adapter>,
}

impl<'a> Loader<'a> {
    /// A loader that stores matrices and tables as `storage`.
    pub fn new(files: &'a WeightFiles, executor: &'a mut Executor, storage: Storage) -> Self {
        Loader { files, executor, storage, bytes: 0, adapter: None }
    }

    /// A table `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a wrong shape or unusable values.
    pub fn table(&mut self, name: &str, width: usize) -> Result<Table, Error> {
        let (name, entry) = self.files.find(name)?;
        let rows = match entry.shape[..] {
            [rows, w] if w == width && rows > 0 => rows,
            _ => return Err(self.misshapen(&name, entry, &format!("[rows, {width}]"))),
        };
        let files = self.files;
        let pair = self.pair(&name, entry, true)?;
        self.table_of(&name, entry, [rows, width], |first, count| {
            let mut values = files.values(&name, entry, first * width, count * width)?;
            if let Some(pair) = &pair {
                pair.add(first, &mut values);
            }
            Ok(values)
        })
    }

    /// A table whose rows are made of others: row t is row `rows[t]` of the table `name`, whatever
    /// numbers that holds, times `scales[t]`.
    ///
    /// # Errors
    /// As [`Loader::table`].
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
            Dtype::I8 => self.files.integers(&name, entry)?.into_iter().map(|v| v as f32).collect(),
            _ => self.files.values(&name, entry, 0, stored * width)?,
        };
        self.table_of(&name, entry, [rows.len(), width], |first, count| {
            let scale = |token: usize| scales.map_or(1.0, |scales| scales[token]);
            let row = |token: usize| &values[rows[token] * width..][..width];
            Ok((first..first + count)
                .flat_map(|token| row(token).iter().map(move |value| value * scale(token)))
                .collect())
        })
    }

    /// Uploads a table in pieces, which `values` gives by first row and rows.
    fn table_of(
        &mut self,
        name: &str,
        entry: &TensorEntry,
        [rows, width]: [usize; 2],
        values: impl Fn(usize, usize) -> Result<Vec<f32>, Error>,
    ) -> Result<Table, Error> {
        let row_bytes = width.next_multiple_of(4) * self.storage.bytes() as usize;
        let total = (rows * row_bytes) as u64;
        let fits = total <= self.executor.gpu.adapter.max_binding_bytes;
        let weight = if fits { Some(self.executor.add_weight(name, total)?) } else { None };
        let mut host = Vec::with_capacity(if fits { 0 } else { total as usize });
        let rows_a_piece = (PIECE / width).max(1);
        let mut loss = Loss::default();
        for first in (0..rows).step_by(rows_a_piece) {
            let count = rows_a_piece.min(rows - first);
            let filled = crate::kernels::fill_rows(&values(first, count)?, width);
            let mut bytes = Vec::new();
            loss.add(convert::encode(self.storage, &filled, &mut bytes));
            match weight {
                Some(weight) => {
                    self.executor.write_weight(weight, (first * row_bytes) as u64, &bytes)?;
                }
                None => host.extend_from_slice(&bytes),
            }
        }
        self.usable(name, entry, loss)?;
        self.bytes += total;
        Ok(match weight {
            Some(weight) => Table::Gpu(weight),
            None => Table::Host { bytes: host, row_bytes },
        })
    }

    /// A linear layer from one or more checkpoint matrices of the same shape, put side by side.
    /// `columns` is the axis of each; for the rest see [`Loader::joined`].
    ///
    /// # Errors
    /// As [`Loader::joined`].
    pub fn linear(
        &mut self,
        parts: &[&str],
        bias: bool,
        inner: Axis,
        columns: Axis,
    ) -> Result<Linear, Error> {
        let parts: Vec<(&str, Axis)> = parts.iter().map(|base| (*base, columns)).collect();
        self.joined(&parts, bias, inner)
    }

    /// A linear layer from one or more checkpoint matrices `[columns, inner]`, put side by side:
    /// `parts` names them without `.weight` and `.bias`, each with the axis of its columns.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn joined(
        &mut self,
        parts: &[(&str, Axis)],
        bias: bool,
        inner: Axis,
    ) -> Result<Linear, Error> {
        // Before anything is allocated for what the config says.
        let mut firsts = Vec::new();
        let mut all = 0;
        for (base, columns) in parts {
            let (name, entry) = self.files.find(&format!("{base}.weight"))?;
            self.shaped(&name, entry, &[columns.len(), inner.len()])?;
            firsts.push(all);
            all += columns.filled();
        }
        let stride = stride4(all / 4) * 4;
        let size = self.storage.bytes() as usize;
        let mut packed = vec![0u8; inner.filled() * stride * size];
        for ((base, columns), part) in parts.iter().zip(&firsts) {
            let (name, entry) = self.files.find(&format!("{base}.weight"))?;
            let pair = self.pair(&name, entry, false)?;
            let mut loss = Loss::default();
            let rows_a_piece = (PIECE / inner.len()).max(1);
            for first in (0..columns.len()).step_by(rows_a_piece) {
                let count = rows_a_piece.min(columns.len() - first);
                let mut values =
                    self.files.values(&name, entry, first * inner.len(), count * inner.len())?;
                if let Some(pair) = &pair {
                    pair.add(first, &mut values);
                }
                let mut bytes = Vec::new();
                loss.add(convert::encode(self.storage, &values, &mut bytes));
                for row in 0..count {
                    let column = part + columns.place(first + row);
                    for k in 0..inner.len() {
                        let from = (row * inner.len() + k) * size;
                        let to = (inner.place(k) * stride + column) * size;
                        packed[to..to + size].copy_from_slice(&bytes[from..from + size]);
                    }
                }
            }
            self.usable(&name, entry, loss)?;
        }
        let name = parts.first().map_or("", |(base, _)| base);
        let weight = self.upload(name, &packed)?;
        let mut biases = vec![0.0; all];
        if bias {
            for ((base, columns), part) in parts.iter().zip(&firsts) {
                let values = self.vector(&format!("{base}.bias"), columns.len())?;
                for (i, value) in values.into_iter().enumerate() {
                    biases[part + columns.place(i)] = value;
                }
            }
        }
        let bias = self.upload(name, bytemuck::cast_slice(&biases))?;
        let columns = parts.iter().map(|(_, columns)| columns.len()).sum();
        Ok(Linear { weight, bias, columns, columns4: all / 4 })
    }

    /// The linear layer of some rows of a checkpoint matrix `[columns, inner]`, in their order: a part of
    /// a layer whose whole result would be too wide. `bias` is of all rows.
    ///
    /// # Errors
    /// As [`Loader::linear`].
    pub fn linear_rows(
        &mut self,
        weight: &str,
        bias: Option<&str>,
        rows: &[Range<usize>],
        [columns, inner]: [usize; 2],
    ) -> Result<Linear, Error> {
        let (name, entry) = self.files.find(weight)?;
        self.shaped(&name, entry, &[columns, inner])?;
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let cells = count.div_ceil(4);
        let stride = stride4(cells) * 4;
        let size = self.storage.bytes() as usize;
        let mut values = Vec::with_capacity(count * inner);
        for rows in rows {
            let read = self.files.values(&name, entry, rows.start * inner, rows.len() * inner)?;
            values.extend(read);
        }
        let mut bytes = Vec::new();
        let loss = convert::encode(self.storage, &values, &mut bytes);
        self.usable(&name, entry, loss)?;
        let mut packed = vec![0u8; inner.next_multiple_of(4) * stride * size];
        for (at, value) in bytes.chunks_exact(size).enumerate() {
            let (row, k) = (at / inner, at % inner);
            packed[(k * stride + row) * size..][..size].copy_from_slice(value);
        }
        let mut biases = vec![0.0; cells * 4];
        if let Some(bias) = bias {
            let all = self.vector(bias, columns)?;
            let picked = rows.iter().cloned().flatten().map(|row| all[row]);
            biases.iter_mut().zip(picked).for_each(|(bias, picked)| *bias = picked);
        }
        let weight = self.upload(&name, &packed)?;
        let bias = self.upload(&name, bytemuck::cast_slice(&biases))?;
        Ok(Linear { weight, bias, columns: count, columns4: cells })
    }

    /// Weight and bias of a layer normalisation.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn norm(&mut self, base: &str, width: usize, eps: f32) -> Result<Norm, Error> {
        self.norm_with(base, width, eps, true)
    }

    /// As [`Loader::norm`], of a model whose norms may have no bias.
    ///
    /// # Errors
    /// As [`Loader::norm`].
    pub fn norm_with(
        &mut self,
        base: &str,
        width: usize,
        eps: f32,
        bias: bool,
    ) -> Result<Norm, Error> {
        let mut upload = |name: String, stored: bool| {
            let values = if stored { self.vector(&name, width)? } else { vec![0.0; width] };
            let filled = crate::kernels::fill_rows(&values, width);
            self.upload(&name, bytemuck::cast_slice(&filled))
        };
        let weight = upload(format!("{base}.weight"), true)?;
        let bias = upload(format!("{base}.bias"), bias)?;
        Ok(Norm { weight, bias, eps })
    }

    /// The weight of a root mean square normalisation.
    ///
    /// # Errors
    /// As [`Loader::scales`].
    pub fn rms_norm(&mut self, base: &str, width: usize, eps: f32) -> Result<RmsNorm, Error> {
        Ok(RmsNorm { weight: self.scales(&[base], width, false)?, eps })
    }

    /// The weights of root mean square normalisations, `[norms, width]`, each filled up; with 1 added
    /// where `plus_one`.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn scales(&mut self, bases: &[&str], width: usize, plus_one: bool) -> Result<usize, Error> {
        let mut filled = Vec::new();
        for base in bases {
            let mut values = self.vector(&format!("{base}.weight"), width)?;
            if plus_one {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            filled.extend(crate::kernels::fill_rows(&values, width));
        }
        let name = bases.first().copied().unwrap_or_default();
        self.upload(name, bytemuck::cast_slice(&filled))
    }

    /// A small matrix `[rows, width]` for the host, rounded as the weight storage rounds it.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn host_matrix(&self, name: &str, [rows, width]: [usize; 2]) -> Result<Vec<f32>, Error> {
        let (name, entry) = self.files.find(name)?;
        self.shaped(&name, entry, &[rows, width])?;
        let values = self.files.values(&name, entry, 0, rows * width)?;
        let mut bytes = Vec::new();
        let loss = convert::encode(self.storage, &values, &mut bytes);
        self.usable(&name, entry, loss)?;
        Ok(convert::decode(self.storage, &bytes))
    }

    fn pair(&self, name: &str, entry: &TensorEntry, table: bool) -> Result<Option<Pair>, Error> {
        self.adapter.map(|adapter| adapter.pair(self.files, name, entry, table)).transpose()
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, Error> {
        let (name, entry) = self.files.find(name)?;
        self.shaped(&name, entry, &[width])?;
        let values = self.files.values(&name, entry, 0, width)?;
        let loss = convert::encode(Storage::F32, &values, &mut Vec::new());
        self.usable(&name, entry, loss)?;
        Ok(values)
    }

    fn upload(&mut self, name: &str, bytes: &[u8]) -> Result<usize, Error> {
        let weight = self.executor.add_weight(name, bytes.len() as u64)?;
        for (piece, part) in bytes.chunks(UPLOAD).enumerate() {
            self.executor.write_weight(weight, (piece * UPLOAD) as u64, part)?;
        }
        self.bytes += bytes.len() as u64;
        Ok(weight)
    }

    fn shaped(&self, name: &str, entry: &TensorEntry, shape: &[usize]) -> Result<(), Error> {
        if entry.shape == shape {
            return Ok(());
        }
        Err(self.misshapen(name, entry, &format!("{shape:?}")))
    }

    fn misshapen(&self, name: &str, entry: &TensorEntry, expected: &str) -> Error {
        let problem = format!(
            "has shape {:?} and {} calls for {expected}; they are of different models",
            entry.shape,
            self.files.config()
        );
        Error::tensor(self.files.file_of(entry), name, problem)
    }

    fn usable(&self, name: &str, entry: &TensorEntry, loss: Loss) -> Result<(), Error> {
        let file = self.files.file_of(entry);
        if loss.non_finite > 0 {
            let problem = format!(
                "holds {} values that are infinite or not a number; download it again",
                loss.non_finite
            );
            return Err(Error::tensor(file, name, problem));
        }
        if let Some(value) = loss.first_overflow {
            let problem = format!(
                "holds {value}, beyond {}, the largest {}; use bfloat16 or float32",
                self.storage.max(),
                self.storage
            );
            return Err(Error::tensor(file, name, problem));
        }
        if loss.flushed > 0 {
            tracing::debug!(
                tensor = name,
                flushed = loss.flushed,
                largest = f64::from(loss.largest),
                "values became zero or subnormal in {}",
                self.storage
            );
        }
        Ok(())
    }
}
