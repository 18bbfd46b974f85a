//! [`Block`], which holds embedded rows before they are written.

use std::ops::Range;

use vectile::{MultiVector, OutputPrecision, Quantized, Ranges, SparseVector, quantize};

use crate::cli::carried::Carried;
use crate::cli::failure::Failure;

/// Consecutive rows of the output.
#[derive(Debug, Clone)]
pub struct Block {
    /// Index of the first row in the output, from 0.
    pub first: u64,
    /// For each row, true if it has a vector.
    pub valid: Vec<bool>,
    /// For each row, true if its text was truncated to the model's maximum length.
    pub truncated: Vec<bool>,
    /// For each row, its approximate size in the input in bytes.
    pub weights: Vec<usize>,
    pub vectors: Vectors,
    pub carried: Carried,
    /// The number of texts that were run a second time with f32 activations, because f16 activations overflowed.
    pub retried: usize,
}

/// The vectors of rows. A row without a vector is stored as zeros if vectors are dense, and as an empty vector
/// otherwise.
#[derive(Debug, Clone)]
pub enum Vectors {
    /// The number of values per row, and the values of all rows.
    Dense(usize, Vec<f32>),
    Sparse(Vec<SparseVector>),
    /// The token vectors of each text.
    Multi(Vec<MultiVector>),
}

impl Block {
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// Returns a new block, which holds the rows of this range only.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let vectors = match &self.vectors {
            Vectors::Dense(dim, values) => {
                Vectors::Dense(*dim, values[rows.start * dim..rows.end * dim].to_vec())
            }
            Vectors::Sparse(vectors) => Vectors::Sparse(vectors[rows.clone()].to_vec()),
            Vectors::Multi(vectors) => Vectors::Multi(vectors[rows.clone()].to_vec()),
        };
        Block {
            first: self.first + rows.start as u64,
            valid: self.valid[rows.clone()].to_vec(),
            truncated: self.truncated[rows.clone()].to_vec(),
            weights: self.weights[rows.clone()].to_vec(),
            vectors,
            retried: if rows.start == 0 { self.retried } else { 0 },
            carried: self.carried.slice(rows),
        }
    }

    /// Appends the rows of the next block.
    pub fn append(&mut self, next: Block) -> Result<(), Failure> {
        self.valid.extend(next.valid);
        self.truncated.extend(next.truncated);
        self.weights.extend(next.weights);
        self.retried += next.retried;
        match (&mut self.vectors, next.vectors) {
            (Vectors::Dense(_, values), Vectors::Dense(_, more)) => values.extend(more),
            (Vectors::Sparse(vectors), Vectors::Sparse(more)) => vectors.extend(more),
            (Vectors::Multi(vectors), Vectors::Multi(more)) => vectors.extend(more),
            _ => {
                return Err(Failure::internal(
                    "dense, sparse and multi-vector rows were mixed in one output",
                ));
            }
        }
        self.carried.append(next.carried)
    }
}

/// The vectors of a block, converted to the precision of the output.
pub enum VectorValues<'a> {
    /// The number of values per row, and the converted values of all rows.
    Dense(usize, Quantized),
    Sparse(&'a [SparseVector]),
    Multi(&'a [MultiVector]),
}

impl<'a> VectorValues<'a> {
    pub fn of(
        block: &'a Block,
        precision: OutputPrecision,
        ranges: Option<&Ranges>,
    ) -> Result<Self, Failure> {
        Ok(match &block.vectors {
            Vectors::Sparse(vectors) => VectorValues::Sparse(vectors),
            Vectors::Multi(vectors) => VectorValues::Multi(vectors),
            Vectors::Dense(dim, values) => VectorValues::Dense(
                precision.columns(*dim),
                quantize(values, *dim, precision, ranges)?,
            ),
        })
    }
}
