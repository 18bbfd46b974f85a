//! Reads the safetensors files of a model: the list of tensors, and the values of tensors by offset.
//!
//! Files are not memory-mapped, because the program crashes if another program rewrites a mapped file. Tensors are read
//! in pieces of bounded size and converted from the dtype of the file.

mod axis;
mod destination;
mod digest;
mod experts;
mod index;
mod loader;
mod lora;
mod matrix;
mod quantized;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use safetensors::Dtype;

use crate::dtype::Storage;
use crate::error::Error;
use crate::files::{ModelFile, ModelFiles};

pub(crate) use axis::{Axis, Columns, Gate};
pub use destination::LoadProgress;
pub(crate) use destination::{Destination, WeightBytes};
pub(crate) use digest::{digest_source, hex};
pub(crate) use experts::ExpertShape;
pub(crate) use loader::{Loader, Table};
pub(crate) use lora::Lora;

/// The entry of a tensor in the header of its file.
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    /// The index of the file that holds the tensor.
    file: usize,
    /// The dtype of the tensor's values in the file.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The offset of the tensor's first byte in the file.
    start: u64,
}

/// The name of a tensor and the place of its values, for fuzz targets.
#[cfg(any(test, fuzzing))]
#[derive(Debug)]
pub(crate) struct TensorPlace {
    pub name: String,
    /// The dtype as the file spells it.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// The name of the file that holds the tensor.
    pub file: String,
    /// The offset of the tensor's first byte in the file.
    pub start: u64,
}

/// The shape of a weight matrix or an embedding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MatrixShape {
    pub rows: usize,
    pub width: usize,
}

/// The safetensors files of one module.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// The name of the JSON file that states the expected shapes, for error messages.
    config: String,
    sources: Vec<ModelFile>,
    tensors: BTreeMap<String, TensorEntry>,
    /// The dtype and the name of the first floating-point tensor, in the order of the files.
    first_floating: Option<(String, String)>,
    used: Mutex<BTreeSet<String>>,
}

impl WeightFiles {
    /// Opens `model.safetensors` in a module's directory, or the shards that its index names.
    ///
    /// # Errors
    /// Returns [`Error::File`] if there is no such file, if it is truncated or not safetensors, or if its tensors
    /// overlap.
    pub fn open(files: &ModelFiles, prefix: &str) -> Result<Self, Error> {
        let mut weights = WeightFiles {
            config: format!("{prefix}config.json"),
            sources: Vec::new(),
            tensors: BTreeMap::new(),
            first_floating: None,
            used: Mutex::default(),
        };
        let single = format!("{prefix}model.safetensors");
        if let Some(source) = files.open(&single)? {
            weights.add(source, "")?;
            return Ok(weights);
        }
        let listed = index::read(files, prefix)?;
        let Some(listed) = listed else { return Err(missing(files, prefix)) };
        for shard in listed.shards() {
            let name = format!("{prefix}{shard}");
            let source = files.open(&name)?.ok_or_else(|| {
                Error::file(
                    &name,
                    format!("is missing; {} lists it; download the model again", listed.file),
                )
            })?;
            weights.add(source, "")?;
        }
        listed.check(prefix, &weights)?;
        Ok(weights)
    }

    /// Adds the weight and the bias of a linear layer that has a separate file. The tensor names get the file's name as
    /// prefix, as in `colbert_linear.weight`.
    ///
    /// # Errors
    /// Returns [`Error::File`] if there is no such file, or if it is truncated or not safetensors. Returns
    /// [`Error::Tensor`] if the file lacks the weight or the bias.
    pub fn add_linear(&mut self, files: &ModelFiles, name: &str) -> Result<(), Error> {
        let file = format!("{name}.safetensors");
        let source = files.open(&file)?.ok_or_else(|| Error::file(&file, "is missing"))?;
        self.add(source, &format!("{name}."))?;
        for part in ["weight", "bias"] {
            if !self.has(&format!("{name}.{part}")) {
                let problem =
                    "is missing; the file must have the weight and the bias of a linear layer";
                return Err(Error::tensor(file, part, problem));
            }
        }
        Ok(())
    }

    /// Adds the tensors of a file, with `prefix` before each name.
    fn add(&mut self, source: ModelFile, prefix: &str) -> Result<(), Error> {
        let file = self.sources.len();
        let header = index::header(&source)?;
        for (name, entry) in header.tensors {
            let name = format!("{prefix}{name}");
            let entry = TensorEntry {
                file,
                dtype: entry.dtype,
                shape: entry.shape,
                start: header.start + entry.data_offsets.0 as u64,
            };
            if self.first_floating.is_none()
                && matches!(entry.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
            {
                self.first_floating = Some((format!("{:?}", entry.dtype), name.clone()));
            }
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::tensor(
                    source.name(),
                    name,
                    "is in another shard too; save the model again",
                ));
            }
        }
        self.sources.push(source);
        Ok(())
    }

    /// Returns the dtype and the name of the first floating-point tensor.
    pub fn first_floating(&self) -> Option<(&str, &str)> {
        self.first_floating.as_ref().map(|(dtype, name)| (dtype.as_str(), name.as_str()))
    }

    /// Returns the prefix before `key` in the only tensor name that ends in `key`. Examples are `bert.`,
    /// `0.auto_model.` and the empty prefix.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] if no tensor name ends in `key`, or if several names do.
    pub fn prefix_of(&self, key: &str) -> Result<String, Error> {
        let found: Vec<&str> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix(key))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect();
        match found[..] {
            [prefix] => Ok(prefix.to_owned()),
            [] => Err(Error::tensor(
                self.file_name(0),
                key,
                format!("is missing; the file has {}", self.some_names()),
            )),
            _ => Err(Error::tensor(
                self.file_name(0),
                key,
                format!(
                    "occurs several times in the file, with the prefixes {found:?}; keep only one \
                     copy of the transformer"
                ),
            )),
        }
    }

    /// Finds a tensor and records it as used. Returns the tensor's name in the file and its entry.
    ///
    /// The tensor is also found under its legacy name, which has `gamma` or `beta` for the weight or the bias of a
    /// `LayerNorm`. It is also found under the name that torch's parametrizations give it.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] if the tensor is missing, if it occurs under two names, or if it has no values.
    pub fn find(&self, name: &str) -> Result<(String, &TensorEntry), Error> {
        let names = [Some(name.to_owned()), legacy_name(name), parametrized_name(name)];
        let mut matches =
            names.iter().flatten().filter_map(|name| self.tensors.get_key_value(name));
        let (found, entry) = match (matches.next(), matches.next()) {
            (Some(_), Some((other, _))) => {
                let problem = format!(
                    "occurs a second time under the name `{other}`; keep only one of the two \
                     tensors"
                );
                return Err(Error::tensor(self.file_name(0), name, problem));
            }
            (Some(found), None) => found,
            (None, _) => {
                let problem = format!("is missing; the file has {}", self.some_names());
                return Err(Error::tensor(self.file_name(0), name, problem));
            }
        };
        if entry.shape.contains(&0) {
            let problem = format!("has no values; its shape is {:?}", entry.shape);
            return Err(Error::tensor(self.file_of(entry), found, problem));
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(found.clone());
        Ok((found.clone(), entry))
    }

    /// Returns true if there is a tensor of exactly this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the shape of a tensor, and records the tensor as used.
    ///
    /// # Errors
    /// Returns the errors of [`WeightFiles::find`].
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        Ok(self.find(name)?.1.shape.clone())
    }

    /// Returns the shape of the tensor with exactly this name, without recording the tensor as used.
    pub fn peek_shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| &entry.shape[..])
    }

    /// Returns the names of the tensors that were not recorded as used.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.tensors.keys().map(String::as_str).filter(move |name| !used.contains(*name))
    }

    /// Returns the name of the first file, for error messages.
    pub fn first_file(&self) -> &str {
        self.file_name(0)
    }

    /// Returns the name, dtype and shape of every tensor, and true if the tensor was recorded as used.
    pub fn listing(&self) -> Vec<(String, String, Vec<usize>, bool)> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors
            .iter()
            .map(|(name, entry)| {
                let dtype = format!("{:?}", entry.dtype);
                (name.clone(), dtype, entry.shape.clone(), used.contains(name))
            })
            .collect()
    }

    /// Returns the name of the file that holds a tensor.
    pub fn file_of(&self, entry: &TensorEntry) -> &str {
        self.file_name(entry.file)
    }

    /// Returns the name of the JSON file that states the expected shapes.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Returns the place of every tensor. Fuzz targets compare the places with the files.
    #[cfg(any(test, fuzzing))]
    pub fn places(&self) -> Vec<TensorPlace> {
        let place = |(name, entry): (&String, &TensorEntry)| TensorPlace {
            name: name.clone(),
            dtype: entry.dtype.to_string(),
            shape: entry.shape.clone(),
            file: self.file_of(entry).to_owned(),
            start: entry.start,
        };
        self.tensors.iter().map(place).collect()
    }

    fn file_name(&self, file: usize) -> &str {
        self.sources.get(file).map_or("model.safetensors", ModelFile::name)
    }

    fn some_names(&self) -> String {
        let names: Vec<&str> = self.tensors.keys().take(4).map(String::as_str).collect();
        match self.tensors.len() {
            0 => "no tensors".to_owned(),
            count if count > 4 => {
                format!("the tensors {} and {} more", names.join(", "), count - 4)
            }
            _ => format!("the tensors {}", names.join(", ")),
        }
    }

    /// Calls `see` with consecutive pieces of a tensor's values.
    ///
    /// # Errors
    /// Returns the errors of [`WeightFiles::values`].
    #[cfg(feature = "lab")]
    pub fn each_piece(&self, name: &str, mut see: impl FnMut(&[f32])) -> Result<(), Error> {
        const PIECE: usize = 1 << 20;
        let (name, entry) = self.find(name)?;
        let total: usize = entry.shape.iter().product();
        for first in (0..total).step_by(PIECE) {
            see(&self.values(&name, entry, first, PIECE.min(total - first))?);
        }
        Ok(())
    }

    /// Returns `count` values of a tensor as f32, starting at index `first`. F64 values are rounded.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] if the tensor's dtype is not a supported floating-point type.
    pub fn values(
        &self,
        name: &str,
        entry: &TensorEntry,
        first: usize,
        count: usize,
    ) -> Result<Vec<f32>, Error> {
        let bytes = self.raw(name, entry, first, count)?;
        Ok(match entry.dtype {
            Dtype::F64 => bytes
                .chunks_exact(8)
                .map(|b| {
                    f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
                })
                .collect(),
            Dtype::F32 => crate::convert::decode(Storage::F32, &bytes),
            Dtype::F16 => crate::convert::decode(Storage::PackedF16, &bytes),
            _ => crate::convert::decode(Storage::PackedBf16, &bytes),
        })
    }
}

impl WeightFiles {
    /// Returns the bytes of `count` values of a tensor, starting at index `first`, as the file stores them.
    fn raw(
        &self,
        name: &str,
        entry: &TensorEntry,
        first: usize,
        count: usize,
    ) -> Result<Vec<u8>, Error> {
        let size = match entry.dtype {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => {
                return Err(Error::tensor(
                    self.file_of(entry),
                    name,
                    format!("has the dtype {other:?}; supported: F32, F16, BF16 and F64"),
                ));
            }
        };
        let mut bytes = vec![0; count * size];
        let offset = entry.start + (first * size) as u64;
        self.sources[entry.file].read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Returns the bytes of `count` values of a tensor without conversion, starting at index `first`. Returns `None` if
    /// the tensor's dtype in the file is not that of `storage`.
    ///
    /// # Errors
    /// Returns the errors of [`WeightFiles::values`].
    pub fn stored_as(
        &self,
        storage: Storage,
        name: &str,
        entry: &TensorEntry,
        first: usize,
        count: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let same = match storage {
            Storage::F32 => entry.dtype == Dtype::F32,
            Storage::F16 | Storage::PackedF16 => entry.dtype == Dtype::F16,
            Storage::PackedBf16 => entry.dtype == Dtype::BF16,
        };
        same.then(|| self.raw(name, entry, first, count)).transpose()
    }

    /// Returns all values of an integer tensor.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] if the tensor's dtype is not a supported integer type.
    pub fn integers(&self, name: &str, entry: &TensorEntry) -> Result<Vec<i64>, Error> {
        let size = match entry.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            Dtype::I8 => 1,
            other => {
                let problem = format!("has the dtype {other:?}; supported: I64, I32 and I8");
                return Err(Error::tensor(self.file_of(entry), name, problem));
            }
        };
        let mut bytes = vec![0; entry.shape.iter().product::<usize>() * size];
        self.sources[entry.file].read_at(entry.start, &mut bytes)?;
        let whole = |b: &[u8]| {
            // A two's complement number is widened by copying its sign bit into the higher bytes.
            let sign = if b[size - 1] & 0x80 == 0 { 0 } else { 0xff };
            let mut all = [sign; 8];
            all[..size].copy_from_slice(b);
            i64::from_le_bytes(all)
        };
        Ok(bytes.chunks_exact(size).map(whole).collect())
    }
}

fn parametrized_name(name: &str) -> Option<String> {
    name.strip_suffix(".weight").map(|base| format!("{base}.parametrizations.weight.original"))
}

fn legacy_name(name: &str) -> Option<String> {
    let weight = name.strip_suffix("LayerNorm.weight").map(|base| format!("{base}LayerNorm.gamma"));
    weight
        .or_else(|| name.strip_suffix("LayerNorm.bias").map(|base| format!("{base}LayerNorm.beta")))
}

/// Returns the error for a module without safetensors weights. The error names weights in another format, if the module
/// has any.
fn missing(files: &ModelFiles, prefix: &str) -> Error {
    let problem = match files.other_weights(prefix) {
        Some(other) => format!("is missing, and {other}"),
        None => "is missing; the directory has no safetensors weights; download the model again"
            .to_owned(),
    };
    Error::file(format!("{prefix}model.safetensors"), problem)
}
