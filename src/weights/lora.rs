//! Reads LoRAs (Hu et al. 2021, <https://arxiv.org/abs/2106.09685>): low-rank matrices for a task, which a checkpoint
//! holds in addition to its weights.
//!
//! The tensors have the names that torch's parametrizations give them. The weight `x.weight` has the name
//! `x.parametrizations.weight.original`. Its LoRA matrices are `x.parametrizations.weight.0.lora_A` and `….lora_B`,
//! which hold the matrices of all tasks.

use crate::error::Error;
use crate::weights::{TensorEntry, WeightFiles};

/// The LoRA of a task, which is added to every weight matrix and embedding table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lora {
    /// The index of the task.
    pub task: usize,
    /// The number of tasks in the file.
    pub tasks: usize,
    pub rank: usize,
    /// The factor by which the product of the two LoRA matrices is multiplied.
    pub scale: f32,
}

/// The two LoRA matrices of one weight for one task. `left` is `[rows, rank]` and `right` is `[rank, width]`.
#[derive(Debug)]
pub(super) struct LoraPair {
    rank: usize,
    width: usize,
    scale: f32,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Lora {
    /// Reads the two LoRA matrices of a weight, given the weight's name in the file. The left matrix is `lora_A` for an
    /// embedding table, and `lora_B` for a linear layer.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] if the weight has no LoRA matrices, or if a LoRA matrix has an unexpected shape.
    pub(super) fn pair(
        &self,
        files: &WeightFiles,
        name: &str,
        entry: &TensorEntry,
        table: bool,
    ) -> Result<LoraPair, Error> {
        let &[rows, width] = &entry.shape[..] else {
            return Err(Error::tensor(
                files.file_of(entry),
                name,
                format!("must be a matrix, but its shape is {:?}", entry.shape),
            ));
        };
        let Some(base) = name.strip_suffix("original") else {
            let problem = "has no LoRA weights, but other tensors of the file have them; download \
                           the model again";
            return Err(Error::tensor(files.file_of(entry), name, problem));
        };
        let part = |part: &str, shape: [usize; 2]| {
            let (name, entry) = files.find(&format!("{base}0.{part}"))?;
            let expected = [self.tasks, shape[0], shape[1]];
            if entry.shape != expected {
                let problem = format!(
                    "has shape {:?}, but {} needs {expected:?}; the files belong to different models",
                    entry.shape,
                    files.config()
                );
                return Err(Error::tensor(files.file_of(entry), name, problem));
            }
            let count = shape[0] * shape[1];
            files.values(&name, entry, self.task * count, count)
        };
        let (left, right) = if table { ("lora_A", "lora_B") } else { ("lora_B", "lora_A") };
        Ok(LoraPair {
            rank: self.rank,
            width,
            scale: self.scale,
            left: part(left, [rows, self.rank])?,
            right: part(right, [self.rank, width])?,
        })
    }
}

impl LoraPair {
    /// Adds `scale · left · right` to rows of the weight, starting with row `first`.
    pub fn add(&self, first: usize, values: &mut [f32]) {
        for (row, values) in values.chunks_exact_mut(self.width).enumerate() {
            let left = &self.left[(first + row) * self.rank..][..self.rank];
            for (column, value) in values.iter_mut().enumerate() {
                let product: f32 = left
                    .iter()
                    .enumerate()
                    .map(|(k, l)| l * self.right[k * self.width + column])
                    .sum();
                *value += product * self.scale;
            }
        }
    }
}
