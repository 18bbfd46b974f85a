//! Embedding tables as inputs of a batch's graph.

use crate::gpu::graph::TensorId;
use crate::kernels::Builder;
use crate::weights::Table;

/// Returns a table with one row of zeros, for lookups that require a table but must add nothing.
pub(in crate::models) fn zero_row(builder: &mut Builder, width: usize) -> TensorId {
    let bytes = width.next_multiple_of(4) * builder.weights.bytes() as usize;
    builder.input("zeros", &vec![0u8; bytes])
}

/// Returns a tensor with rows of an embedding table, and for each id the index of the id's row in this tensor.
///
/// For a table on the GPU, this function returns the table's tensor and the ids. For a table on the host, the tensor
/// holds the rows that this batch needs, in the order of `ids`.
pub(in crate::models) fn table_rows(
    builder: &mut Builder,
    table: &Table,
    ids: &[u32],
) -> (TensorId, Vec<u32>) {
    match table {
        Table::Gpu(weight) => (builder.weight("word table", *weight), ids.to_vec()),
        Table::Host { bytes, row_bytes } => {
            let mut gathered = Vec::with_capacity(ids.len() * row_bytes);
            for id in ids {
                let start = *id as usize * row_bytes;
                gathered.extend_from_slice(&bytes[start..start + row_bytes]);
            }
            (builder.input("gathered rows", &gathered), (0..ids.len() as u32).collect())
        }
        Table::Unread { row_bytes } => {
            let zeros = vec![0u8; ids.len() * row_bytes];
            (builder.input("gathered rows", &zeros), (0..ids.len() as u32).collect())
        }
    }
}
