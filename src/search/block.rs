//! The graph that compares a block of rows with all queries, and the hits in the graph's output.

use super::best::{Best, SearchHit};
use crate::convert;
use crate::dtype::Storage;
use crate::error::Error;
use crate::kernels::similarity::similarity;
use crate::kernels::top_k::{MAX_KEPT, top_k};
use crate::kernels::{Activations, Builder, KernelPlan, pad_rows};
use crate::similarity::SimilarityFunction;

/// The maximum size in bytes of the rows of a block.
const ROW_BYTES: u64 = 16 << 20;

/// The maximum size in bytes of the scores of a block.
const SCORE_BYTES: u64 = 64 << 20;

/// The maximum number of rows in a block. WebGPU allows 65,535 workgroups in a dimension, and each workgroup compares
/// 64 rows.
const MAX_ROWS: u64 = 1 << 20;

/// The number of rows that a workgroup compares. Block sizes are multiples of this number where limits allow it.
const WORKGROUP_ROWS: usize = 64;

/// The queries of a search, in the format that kernels read.
#[derive(Debug)]
pub(super) struct Queries {
    /// The number of values in a query and in a row.
    pub dim: usize,
    pub values: Vec<f32>,
    pub similarity: SimilarityFunction,
    pub top_k: usize,
}

/// The output of the comparison of a block with all queries.
#[derive(Debug)]
pub(super) struct Compared {
    output: Activations,
    /// The number of hits that the output holds for each tile, where a hit is a pair (score, row). `None` if the output
    /// holds a score for each row instead.
    kept: Option<usize>,
}

impl Queries {
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Returns the number of rows in a block. `largest_buffer` is the adapter's limit for a buffer in bytes, and
    /// `max_flops` is the adapter's limit for the floating-point operations of a dispatch.
    pub fn block_rows(&self, storage: Storage, largest_buffer: u64, max_flops: u64) -> usize {
        let queries = self.len().max(1) as u64;
        let row = self.dim.next_multiple_of(4) as u64 * storage.bytes();
        let rows = (ROW_BYTES.min(largest_buffer) / row)
            .min(SCORE_BYTES.min(largest_buffer) / (4 * queries))
            .min(max_flops / (2 * queries * self.dim as u64))
            .min(MAX_ROWS);
        match rows as usize {
            rows @ ..WORKGROUP_ROWS => rows.max(1),
            rows => rows / WORKGROUP_ROWS * WORKGROUP_ROWS,
        }
    }

    /// Returns the number of hits that the device selects from each tile; `None` if the host selects hits from all
    /// scores. A software adapter, and the CPU, would select hits more slowly than the host, which needs one pass over
    /// the scores.
    fn kept(&self, plan: &KernelPlan) -> Option<usize> {
        (self.top_k <= MAX_KEPT && !plan.software).then_some(self.top_k)
    }

    /// Adds the comparison of a block with all queries to a graph. `rows` are the bytes of the block's rows, in the
    /// builder's storage type of weights. Each row is padded to a multiple of four values.
    pub fn compare(&self, builder: &mut Builder, rows: Vec<u8>, count: usize) -> Compared {
        let width4 = self.dim.div_ceil(4);
        let storage = builder.weights;
        let id = builder.input_bytes("corpus", rows);
        let corpus = Activations { id, rows: count, width: self.dim, width4, storage };
        let id = builder.input("queries", &pad_rows(&self.values, self.dim));
        let storage = Storage::F32;
        let queries = Activations { id, rows: self.len(), width: self.dim, width4, storage };
        let scores = similarity(builder, corpus, queries, self.similarity);
        let kept = self.kept(&builder.plan);
        let output = match kept {
            Some(kept) => top_k(builder, scores, kept),
            None => scores,
        };
        builder.graph.output = Some(output.id);
        builder.graph.tokens = 1;
        Compared { output, kept }
    }

    /// Adds the hits of a block to the best hits of each query. `bytes` is the content of the output. The block has
    /// `count` rows, and the index of its first row is `first`.
    ///
    /// # Errors
    /// Returns an error text if the output contains a result that no correct computation gives.
    pub fn take(
        &self,
        Compared { output, kept }: &Compared,
        bytes: &[u8],
        (first, count): (usize, usize),
        best: &mut [Best],
    ) -> Result<(), &'static str> {
        let values = convert::decode(Storage::F32, bytes);
        for (row, best) in values.chunks_exact(output.width4 * 4).zip(best) {
            let row = &row[..output.width];
            match kept {
                Some(kept) => take_pairs(row, (*kept).min(count), (first, count), best)?,
                None => {
                    for (at, score) in row.iter().enumerate() {
                        offer(best, first + at, *score)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Adds the hits in pairs (score, row) to the best hits. There must be at least `expected` hits.
fn take_pairs(
    pairs: &[f32],
    expected: usize,
    (first, count): (usize, usize),
    best: &mut Best,
) -> Result<(), &'static str> {
    let mut hits = 0;
    for pair in pairs.chunks_exact(2).filter(|pair| pair[1] >= 0.0) {
        let row = pair[1] as usize;
        if row >= count {
            return Err("the adapter returned a search result for a row that does not exist");
        }
        offer(best, first + row, pair[0])?;
        hits += 1;
    }
    if hits < expected {
        Err("the adapter returned fewer search results than expected")
    } else {
        Ok(())
    }
}

fn offer(best: &mut Best, index: usize, score: f32) -> Result<(), &'static str> {
    // Every score must be finite, because rows whose scores could exceed the range of f32 were refused.
    if !score.is_finite() {
        return Err("the adapter returned a search score that is infinite or not a number");
    }
    best.offer(SearchHit { index, score });
    Ok(())
}

/// Returns the error for a result that no correct computation gives.
pub(super) fn fault(adapter: &str, problem: &str) -> Error {
    let advice = "update the driver or use another adapter";
    Error::device_fault(
        adapter,
        format!("{problem}, so the result of the search is discarded; {advice}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(count: usize, dim: usize, top_k: usize) -> Queries {
        let similarity = SimilarityFunction::Dot;
        Queries { dim, values: vec![0.0; count * dim], similarity, top_k }
    }

    #[test]
    fn a_block_keeps_to_every_limit() {
        let rows = |count, dim, buffer, flops| {
            queries(count, dim, 10).block_rows(Storage::F32, buffer, flops)
        };
        assert_eq!(rows(1, 384, 1 << 30, 1 << 40), 10_880);
        assert_eq!(rows(1, 384, 1 << 20, 1 << 40), 640);
        assert_eq!(rows(1000, 384, 1 << 30, 2_000_000_000), 2560);
        assert_eq!(rows(1, 1, 1 << 30, 1 << 40), 1 << 20);
        assert_eq!(rows(1, 384, 1 << 30, 1000), 1);
        assert_eq!(queries(1, 384, 10).block_rows(Storage::PackedF16, 1 << 30, 1 << 40), 21_824);
    }

    #[test]
    fn impossible_results_of_a_device_are_refused() {
        let queries = queries(1, 4, 2);
        let id = crate::gpu::graph::TensorId(0);
        let output = Activations { id, rows: 1, width: 4, width4: 1, storage: Storage::F32 };
        let pairs_of = Compared { output, kept: Some(2) };
        let take = |pairs: [f32; 4]| {
            let mut best = [Best::new(2)];
            queries.take(&pairs_of, bytemuck::cast_slice(&pairs), (5, 3), &mut best)?;
            Ok::<_, &str>(best[0].hits().iter().map(|hit| hit.index).collect::<Vec<_>>())
        };
        assert_eq!(take([0.5, 2.0, 0.25, 0.0]), Ok(vec![7, 5]));
        assert!(take([0.5, 3.0, 0.25, 0.0]).unwrap_err().contains("does not exist"));
        assert!(take([0.5, 2.0, 0.0, -1.0]).unwrap_err().contains("fewer"));
        assert!(take([f32::NAN, 2.0, 0.25, 0.0]).unwrap_err().contains("not a number"));
    }
}
