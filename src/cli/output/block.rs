//! Rows on their way into an output.

use std::ops::Range;

use vectile::{MultiVector, OutputPrecision, Quantized, Ranges, SparseVector, quantize};

use crate::cli::carried::Carried;
use crate::cli::failure::Failure;

/// Some rows, one after the other.
#[derive(Debug, Clone)]
pub struct Block {
    /// The number of the first of them in the output; from 0.
    pub first: u64,
    /// For each row, whether it has a vector.
    pub valid: Vec<bool>,
    /// For each row, whether its text was cut.
    pub truncated: Vec<bool>,
    /// For each row, about how many bytes of input it was.
    pub weights: Vec<usize>,
    pub vectors: Vectors,
    pub carried: Carried,
    /// How many texts were run again with f32 activations.
    pub retried: usize,
}

/// The vectors of rows. Rows without one have zeros, or nothing, in its place.
#[derive(Debug, Clone)]
pub enum Vectors {
    /// Rows of so many values.
    Dense(usize, Vec<f32>),
    Sparse(Vec<SparseVector>),
    /// Those of the tokens of each text.
    Multi(Vec<MultiVector>),
}

impl Block {
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// Some of the rows.
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

    /// Adds the rows that follow.
    pub fn append(&mut self, next: Block) -> Result<(), Failure> {
        self.valid.extend(next.valid);
        self.truncated.extend(next.truncated);
        self.weights.extend(next.weights);
        self.retried += next.retried;
        match (&mut self.vectors, next.vectors) {
            (Vectors::Dense(_, values), Vectors::Dense(_, more)) => values.extend(more),
            (Vectors::Sparse(vectors), Vectors::Sparse(more)) => vectors.extend(more),
            (Vectors::Multi(vectors), Vectors::Multi(more)) => vectors.extend(more),
            _ => return Err(Failure::Ours("internal error: rows of two sorts".to_owned())),
        }
        self.carried.append(next.carried)
    }
}

/// The numbers of a block as they are written.
pub enum Cells<'a> {
    /// Rows of so many numbers.
    Dense(usize, Quantized),
    Sparse(&'a [SparseVector]),
    Multi(&'a [MultiVector]),
}

impl<'a> Cells<'a> {
    pub fn of(
        block: &'a Block,
        precision: OutputPrecision,
        ranges: Option<&Ranges>,
    ) -> Result<Self, Failure> {
        Ok(match &block.vectors {
            Vectors::Sparse(vectors) => Cells::Sparse(vectors),
            Vectors::Multi(vectors) => Cells::Multi(vectors),
            Vectors::Dense(dim, values) => {
                Cells::Dense(precision.columns(*dim), quantize(values, *dim, precision, ranges)?)
            }
        })
    }
}
