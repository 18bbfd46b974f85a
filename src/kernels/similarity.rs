//! `similarity.wgsl`: compares every row of a corpus with every query.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;
use crate::similarity::SimilarityFunction;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `similarity.wgsl`.
    pub struct SimilarityParams { rows: u32, queries: u32, width4: u32, stride: u32 }
}

/// The descriptor of `similarity.wgsl`, which compares rows with queries.
pub static SIMILARITY: Kernel = Kernel {
    name: "similarity",
    source: include_str!("../../shaders/similarity.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    params: SimilarityParams::FIELDS,
    reads_weights: true,
    reads_activations: false,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[
        Setting { name: "FUNCTION", constant: false, values: &[0, 1, 2, 3] },
        Setting { name: "QUERIES", constant: true, values: &[1, 4] },
    ],
};

/// If there are several queries, an invocation compares its row with this number of queries while it reads the row
/// once.
const QUERIES_AT_ONCE: u32 = 4;

/// Adds the scores of each row of `corpus` for each query to the graph, and returns them, `[queries, corpus rows]` in
/// f32.
///
/// The corpus has the builder's storage type of weights, and queries are f32. For the cosine, queries must have length
/// one; rows of the corpus may have any length. A score does not depend on the other rows and queries.
pub fn similarity(
    builder: &mut Builder,
    corpus: Activations,
    queries: Activations,
    function: SimilarityFunction,
) -> Activations {
    let width4 = corpus.rows.div_ceil(4);
    let source = TensorSource::Scratch;
    let scores = builder.rows("scores", queries.rows, width4, corpus.rows, Storage::F32, source);
    let at_once = if queries.rows == 1 { 1 } else { QUERIES_AT_ONCE };
    let variant = builder
        .variant(&SIMILARITY, Storage::F32)
        .set("FUNCTION", code(function))
        .constant("QUERIES", at_once);
    let params = SimilarityParams {
        rows: corpus.rows as u32,
        queries: queries.rows as u32,
        width4: corpus.width4 as u32,
        stride: (width4 * 4) as u32,
    };
    let groups = (queries.rows as u32).div_ceil(at_once);
    builder.graph.dispatches.push(Dispatch {
        kernel: &SIMILARITY,
        variant,
        bindings: vec![corpus.id, queries.id, scores.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::grid((corpus.rows as u32).div_ceil(64), groups),
        flops: (2 * corpus.rows * queries.rows * corpus.width) as u64,
    });
    scores
}

/// Returns the value of the constant `FUNCTION` in `similarity.wgsl` for a similarity function.
fn code(function: SimilarityFunction) -> u32 {
    match function {
        SimilarityFunction::Cosine => 0,
        SimilarityFunction::Dot => 1,
        SimilarityFunction::Euclidean => 2,
        SimilarityFunction::Manhattan => 3,
    }
}
