//! safetensors files of a model: which tensors there are, and their values by offset.
//!
//! Nothing is mapped: a file that is rewritten while it is mapped ends the program. Tensors are read
//! in bounded pieces, each from its own stored dtype.

mod axis;
mod destination;
mod digest;
mod experts;
mod index;
mod loader;
mod lora;
mod matrix;

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

/// What the header says of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    /// Which of the files holds it.
    file: usize,
    /// How it is stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Offset of its first byte in the file.
    start: u64,
}

/// The safetensors files of one module.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// The JSON file that says which shapes there should be, for messages.
    config: String,
    sources: Vec<ModelFile>,
    tensors: BTreeMap<String, TensorEntry>,
    /// The first tensor with a floating dtype, in file order, and that dtype's name.
    first_floating: Option<(String, String)>,
    used: Mutex<BTreeSet<String>>,
}

impl WeightFiles {
    /// `model.safetensors` of a module's directory, or the shards its index names.
    ///
    /// # Errors
    /// [`Error::File`] where there is none, or it is cut short, overlapping or not safetensors.
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
        let Some(listed) = listed else { return Err(missing(files, prefix)?) };
        for shard in listed.shards() {
            let name = format!("{prefix}{shard}");
            let source = files.open(&name)?.ok_or_else(|| {
                Error::file(&name, format!("is missing; {} lists it", listed.file))
            })?;
            weights.add(source, "")?;
        }
        listed.check(prefix, &weights)?;
        Ok(weights)
    }

    /// Adds the weight and the bias of a linear layer that lies beside the others in a file of its own,
    /// under that file's name: `colbert_linear.weight`.
    ///
    /// # Errors
    /// [`Error::File`] where there is no such file, or it is cut short or not safetensors;
    /// [`Error::Tensor`] where it lacks one of the two.
    pub fn add_linear(&mut self, files: &ModelFiles, name: &str) -> Result<(), Error> {
        let file = format!("{name}.safetensors");
        let source = files.open(&file)?.ok_or_else(|| Error::file(&file, "is missing"))?;
        self.add(source, &format!("{name}."))?;
        for part in ["weight", "bias"] {
            if !self.has(&format!("{name}.{part}")) {
                let problem = "is missing; the file has the weight and the bias of a linear layer";
                return Err(Error::tensor(file, part, problem));
            }
        }
        Ok(())
    }

    /// Adds the tensors of a file, with `prefix` before their names.
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

    /// The dtype name and the name of the first floating tensor.
    pub fn first_floating(&self) -> Option<(&str, &str)> {
        self.first_floating.as_ref().map(|(dtype, name)| (dtype.as_str(), name.as_str()))
    }

    /// The prefix under which the tensor `key` is stored: `bert.`, `0.auto_model.` or none.
    ///
    /// # Errors
    /// [`Error::Tensor`] where no tensor or several end in `key`.
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
                    "is there several times, under {found:?}; keep one copy of the transformer"
                ),
            )),
        }
    }

    /// The header's entry of a tensor, also under its legacy name (`gamma` and `beta` for the weight
    /// and bias of a `LayerNorm`) and that of torch's parametrizations, with the name it has in the
    /// file. Marks it as used.
    ///
    /// # Errors
    /// [`Error::Tensor`] where it is missing, or there under both names.
    pub fn find(&self, name: &str) -> Result<(String, &TensorEntry), Error> {
        let names = [Some(name.to_owned()), legacy_name(name), parametrized_name(name)];
        let mut there = names.iter().flatten().filter_map(|name| self.tensors.get_key_value(name));
        let (found, entry) = match (there.next(), there.next()) {
            (Some(_), Some((other, _))) => {
                let problem = format!("is there as `{other}` too; keep one of them");
                return Err(Error::tensor(self.file_name(0), name, problem));
            }
            (Some(found), None) => found,
            (None, _) => {
                let problem = format!("is missing; the file has {}", self.some_names());
                return Err(Error::tensor(self.file_name(0), name, problem));
            }
        };
        if entry.shape.contains(&0) {
            let problem = format!("has no values, its shape is {:?}", entry.shape);
            return Err(Error::tensor(self.file_of(entry), found, problem));
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(found.clone());
        Ok((found.clone(), entry))
    }

    /// True where there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// As [`WeightFiles::find`].
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        Ok(self.find(name)?.1.shape.clone())
    }

    /// Every tensor: name, dtype, shape, and whether something was read from it.
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

    /// The name of the file that holds an entry.
    pub fn file_of(&self, entry: &TensorEntry) -> &str {
        self.file_name(entry.file)
    }

    /// The JSON file that says which shapes there should be.
    pub fn config(&self) -> &str {
        &self.config
    }

    fn file_name(&self, file: usize) -> &str {
        self.sources.get(file).map_or("model.safetensors", ModelFile::name)
    }

    fn some_names(&self) -> String {
        let names: Vec<&str> = self.tensors.keys().take(4).map(String::as_str).collect();
        match self.tensors.len() {
            0 => "no tensors".to_owned(),
            count if count > 4 => format!("{} and {} more", names.join(", "), count - 4),
            _ => names.join(", "),
        }
    }

    /// Shows `see` all values of a tensor, in pieces.
    ///
    /// # Errors
    /// As [`WeightFiles::values`].
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

    /// `count` values of a tensor from the value `first` on, as f32, exactly where f32 can.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a dtype that is no float.
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
    /// The bytes of `count` values of a tensor from the value `first` on.
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
                    format!("is {other:?}; F32, F16, BF16 and F64 can be used"),
                ));
            }
        };
        let mut bytes = vec![0; count * size];
        let offset = entry.start + (first * size) as u64;
        self.sources[entry.file].read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of `count` values of a tensor from the value `first` on, where the file has them in the
    /// format of `storage`.
    ///
    /// # Errors
    /// As [`WeightFiles::values`].
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

    /// All values of a tensor of whole numbers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for another dtype.
    pub fn integers(&self, name: &str, entry: &TensorEntry) -> Result<Vec<i64>, Error> {
        let size = match entry.dtype {
            Dtype::I64 => 8,
            Dtype::I32 => 4,
            Dtype::I8 => 1,
            other => {
                let problem = format!("is {other:?}; I64, I32 and I8 can be used");
                return Err(Error::tensor(self.file_of(entry), name, problem));
            }
        };
        let mut bytes = vec![0; entry.shape.iter().product::<usize>() * size];
        self.sources[entry.file].read_at(entry.start, &mut bytes)?;
        let whole = |b: &[u8]| {
            // Two's complement: the sign fills what the number does not.
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

/// The error for a module without safetensors, which says what it has instead.
fn missing(files: &ModelFiles, prefix: &str) -> Result<Error, Error> {
    let name = format!("{prefix}model.safetensors");
    for other in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        if files.exists(&format!("{prefix}{other}"))? {
            return Ok(Error::file(
                name,
                format!(
                    "is missing, and {other} is a Python pickle, which can run code when opened; \
                     save the model with `safe_serialization=True`"
                ),
            ));
        }
    }
    Ok(Error::file(name, "is missing; the directory has no safetensors weights"))
}
