//! Known-answer tests: each kernel runs on small fixed inputs, and its plain-Rust reference gives the expected result.
//!
//! The self-test runs these tests on a user's adapter. Most sizes of the inputs are deliberately not multiples of tile
//! sizes, so that the tests include padding, partly filled tiles and partly filled subgroups.

mod experts;
mod matmul;
mod search;

use crate::convert;
use crate::dtype::Storage;
use crate::gpu::graph::{TensorId, TensorSource};
use crate::gpu::kernel::Kernel;
use crate::kernels::attention::TextSpan;
use crate::kernels::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE};
use crate::kernels::{
    Activations, Builder, KernelPlan, attention, combine, group_rows, layer_norm, lookup,
    normalize_l2, pad_rows, pool, reference, rms_norm, rope, route, similarity, top_k,
};

/// The group of adapters on which models run a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Models run the kernel on all adapters.
    All,
    /// Models run the kernel on software adapters.
    Software,
    /// Models run the kernel on GPUs.
    Gpu,
    /// Models run the kernel on GPUs with cooperative matrices, if weights and activations are f16.
    Cooperative,
}

impl Family {
    /// Returns the plan under which models run the kernel with these storage types of weights and activations. The plan
    /// differs from `own`, the adapter's plan, as little as possible. Returns `None` if the adapter cannot run the
    /// kernel.
    pub fn plan(
        self,
        own: &KernelPlan,
        (weights, activations): (Storage, Storage),
    ) -> Option<KernelPlan> {
        Some(match self {
            Family::All => own.clone(),
            Family::Software => KernelPlan { software: true, ..own.clone() },
            Family::Gpu => {
                KernelPlan { software: false, cooperative: None, by_rows: true, ..own.clone() }
            }
            Family::Cooperative => {
                let f16 = weights == Storage::F16 && activations == Storage::F16;
                own.cooperative.filter(|_| f16)?;
                KernelPlan { software: false, ..own.clone() }
            }
        })
    }

    /// Is true if models run the kernel on an adapter with this plan.
    pub fn is_of(self, plan: &KernelPlan) -> bool {
        match self {
            Family::All => true,
            Family::Software => plan.software,
            Family::Gpu => !plan.software,
            Family::Cooperative => !plan.software && plan.cooperative.is_some(),
        }
    }
}

/// A function that adds a run of a kernel to a graph, with the builder's storage types.
pub type Run = fn(&mut Builder) -> Answer;

/// A known-answer test: the runs of a kernel, and the tolerance of their results.
#[derive(Debug)]
pub struct KnownAnswer {
    /// The kernel that is tested.
    pub kernel: &'static Kernel,
    /// The adapters that can run the kernel.
    pub family: Family,
    /// The runs of the kernel: one without options, and others that together execute every branch of the kernel.
    pub runs: &'static [Run],
    /// The largest error that is allowed in a result computed in f32. The error of rounding to the storage type is
    /// added to this tolerance.
    pub tolerance: f64,
}

/// A tensor and its expected values.
#[derive(Debug)]
pub struct Answer {
    /// The tensor that the kernel writes.
    pub y: Activations,
    /// The expected values, `[rows, width]`, without padding.
    pub expected: Vec<f64>,
}

/// The runs of the matmul variants that accept any number of rows.
const MATMUL: &[Run] =
    &[matmul::plain, matmul::whole, matmul::gated, matmul::rotated, experts::matmul_shared];
/// The runs of the attention variants that accept heads of any size.
const ATTENTION: &[Run] = &[attention_plain, attention_whole, attention_relative];

/// The known-answer test of every kernel in [`ALL`](super::ALL).
pub static ANSWERS: &[KnownAnswer] = &[
    KnownAnswer {
        kernel: &lookup::LOOKUP,
        family: Family::All,
        runs: &[lookup_answer],
        tolerance: 1e-6,
    },
    KnownAnswer {
        kernel: &layer_norm::LAYER_NORM,
        family: Family::All,
        runs: &[layer_norm_plain, layer_norm_whole],
        tolerance: 1e-5,
    },
    KnownAnswer {
        kernel: &rms_norm::RMS_NORM,
        family: Family::All,
        runs: &[rms_norm_plain, rms_norm_whole],
        tolerance: 1e-5,
    },
    KnownAnswer { kernel: &rope::ROPE, family: Family::All, runs: &[rope_answer], tolerance: 1e-5 },
    KnownAnswer {
        kernel: &route::ROUTE,
        family: Family::All,
        runs: &[experts::route_one, experts::route_three],
        tolerance: 1e-5,
    },
    KnownAnswer {
        kernel: &group_rows::GROUP_ROWS,
        family: Family::All,
        runs: &[experts::group_even, experts::group_uneven],
        tolerance: 0.0,
    },
    KnownAnswer {
        kernel: &combine::COMBINE,
        family: Family::All,
        runs: &[experts::combine],
        tolerance: 1e-5,
    },
    KnownAnswer { kernel: &MATMUL_TILE, family: Family::Gpu, runs: MATMUL, tolerance: 2e-5 },
    KnownAnswer {
        kernel: &MATMUL_FEW,
        family: Family::Gpu,
        runs: &[matmul::few, matmul::few_whole, matmul::few_gated, matmul::few_rotated],
        tolerance: 2e-5,
    },
    // Matrix hardware sums products in an unspecified order and with unspecified rounding, so the tolerance is larger
    // than for the other matmuls.
    KnownAnswer {
        kernel: &MATMUL_COOP,
        family: Family::Cooperative,
        runs: &[
            matmul::plain,
            matmul::whole,
            matmul::gated,
            matmul::rotated,
            experts::matmul_shared,
            matmul::whole_slices,
        ],
        tolerance: 1e-4,
    },
    KnownAnswer { kernel: &MATMUL_LANE, family: Family::Software, runs: MATMUL, tolerance: 2e-5 },
    KnownAnswer {
        kernel: &attention::ATTENTION_TILE,
        family: Family::Gpu,
        runs: ATTENTION,
        tolerance: 2e-5,
    },
    // The kernel's softmax weights are f16, and conversions to f16 may truncate, so the tolerance is larger than for
    // the other attention kernels.
    KnownAnswer {
        kernel: &attention::ATTENTION_COOP,
        family: Family::Cooperative,
        runs: &[attention_of_matrices, attention_whole_of_matrices],
        tolerance: 1e-3,
    },
    KnownAnswer {
        kernel: &attention::ATTENTION_LANE,
        family: Family::Software,
        runs: ATTENTION,
        tolerance: 2e-5,
    },
    KnownAnswer { kernel: &pool::POOL, family: Family::All, runs: &[pool_answer], tolerance: 1e-5 },
    KnownAnswer {
        kernel: &normalize_l2::NORMALIZE_L2,
        family: Family::All,
        runs: &[normalize_answer],
        tolerance: 1e-6,
    },
    KnownAnswer {
        kernel: &similarity::SIMILARITY,
        family: Family::All,
        runs: &[search::cosine, search::dot, search::euclidean, search::manhattan],
        tolerance: 1e-5,
    },
    // The kernel copies scores without arithmetic, so the tolerance is zero.
    KnownAnswer {
        kernel: &top_k::TOP_K,
        family: Family::All,
        runs: &[search::best_scores, search::best_pairs, search::many_best],
        tolerance: 0.0,
    },
];

/// Returns a pseudorandom value in [-1, 1) for each index, the same on every machine.
fn noise(seed: u32, index: usize) -> f32 {
    let mut h = (index as u32 + 1).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    (h ^ (h >> 15)) as f32 / 2f32.powi(31) - 1.0
}

/// Returns pseudorandom values that a storage type represents exactly, so that every error comes from the kernel.
fn values(seed: u32, count: usize, scale: f32, storage: Storage) -> Vec<f32> {
    let raw: Vec<f32> = (0..count).map(|i| noise(seed, i) * scale).collect();
    let mut bytes = Vec::new();
    convert::encode(storage, &raw, &mut bytes);
    convert::decode(storage, &bytes)
}

/// Adds values to the graph as a tensor with this storage type.
fn stored(builder: &mut Builder, values: &[f32], storage: Storage) -> TensorId {
    let mut bytes = Vec::new();
    convert::encode(storage, values, &mut bytes);
    builder.graph.add("values", bytes.len() as u64, TensorSource::Input(bytes))
}

/// Adds values to the graph as a tensor of activations, `[rows, width]`.
fn activations(builder: &mut Builder, values: &[f32], width: usize) -> Activations {
    stored_rows(builder, values, width, builder.activations)
}

fn stored_rows(
    builder: &mut Builder,
    values: &[f32],
    width: usize,
    storage: Storage,
) -> Activations {
    let id = stored(builder, &pad_rows(values, width), storage);
    let (rows, width4) = (values.len() / width, width.div_ceil(4));
    Activations { id, rows, width, width4, storage }
}

fn lookup_answer(builder: &mut Builder) -> Answer {
    let (tokens, width) = (7, 30);
    let storage = builder.weights;
    let tables = [1, 2, 3].map(|seed| values(seed, 11 * width, 1.0, storage));
    let rows: Vec<[u32; 4]> = (0..tokens).map(|t| [t * 5 % 11, t, t * 3 % 11, 0]).collect();
    let ids = tables.each_ref().map(|table| stored(builder, &pad_rows(table, width), storage));
    let y = lookup::lookup(builder, &rows, ids, width);
    let expected = reference::lookup(&rows, [&tables[0], &tables[1], &tables[2]], width);
    Answer { y, expected }
}

fn layer_norm_plain(builder: &mut Builder) -> Answer {
    layer_norm_answer(builder, false)
}

fn layer_norm_whole(builder: &mut Builder) -> Answer {
    layer_norm_answer(builder, true)
}

fn layer_norm_answer(builder: &mut Builder, whole: bool) -> Answer {
    let (rows, width) = (9, 70);
    let x = values(4, rows * width, 4.0, builder.activations);
    let residual = values(5, rows * width, 4.0, builder.activations);
    let (weight, bias) = (values(6, width, 2.0, Storage::F32), values(7, width, 1.0, Storage::F32));
    let norm = [&weight, &bias].map(|v| stored(builder, &pad_rows(v, width), Storage::F32));
    let x_t = activations(builder, &x, width);
    let residual_t = activations(builder, &residual, width);
    let y = layer_norm::layer_norm_of(builder, x_t, whole.then_some(residual_t), norm, 1e-5);
    let residual = whole.then_some(&residual[..]);
    let expected = reference::layer_norm(&x, residual, &weight, &bias, 1e-5);
    Answer { y, expected }
}

fn rms_norm_plain(builder: &mut Builder) -> Answer {
    rms_norm_answer(builder, false)
}

fn rms_norm_whole(builder: &mut Builder) -> Answer {
    rms_norm_answer(builder, true)
}

fn rms_norm_answer(builder: &mut Builder, whole: bool) -> Answer {
    let (rows, width) = (9, 70);
    let x = values(15, rows * width, 4.0, builder.activations);
    let residual = values(16, rows * width, 4.0, builder.activations);
    let weight = values(17, width, 2.0, Storage::F32);
    let norm = stored(builder, &pad_rows(&weight, width), Storage::F32);
    let x_t = activations(builder, &x, width);
    let residual_t = activations(builder, &residual, width);
    let y = rms_norm::rms_norm_of(builder, x_t, norm, 1e-5, whole.then_some(residual_t));
    let residual = whole.then_some(&residual[..]);
    Answer { y, expected: reference::rms_norm(&x, &weight, 1e-5, residual) }
}

fn rope_answer(builder: &mut Builder) -> Answer {
    let (turns, rows, angles) = rotated_heads();
    let x = values(18, rows.len() * 3 * turns.head, 3.0, builder.activations);
    let weight = values(19, 2 * turns.head, 2.0, Storage::F32);
    let norm = rope::HeadNorm { weight: stored(builder, &weight, Storage::F32), eps: 1e-5 };
    let x_t = activations(builder, &x, 3 * turns.head);
    let table = rope::Angles::new(builder, &rows, &angles, 7);
    let y = rope::rope(builder, x_t, &table, &turns, norm);
    Answer { y, expected: reference::rope(&x, &rows, (&angles, 7), &turns, (&weight, 1e-5)) }
}

/// Returns the rope settings, the row of angles of each token, and the angles. The test has two query heads and one key
/// head of 20 values, of which 14 are rotated.
fn rotated_heads() -> (rope::Rope, Vec<u32>, Vec<[f32; 2]>) {
    let turns = rope::Rope { heads: 2, kv_heads: 1, head: 20 };
    let angles = rope::angles(&[1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001], 1.1, 5);
    (turns, vec![0, 1, 2, 3, 4, 0, 1], angles)
}

fn attention_plain(builder: &mut Builder) -> Answer {
    attention_answer(builder, 8)
}

/// Tests attention with heads whose size is a multiple of the size of a cooperative matrix.
fn attention_of_matrices(builder: &mut Builder) -> Answer {
    attention_answer(builder, 32)
}

/// Tests attention over three texts. In the last text, the last tokens are not keys. Each query head has its own key
/// head.
fn attention_answer(builder: &mut Builder, head: usize) -> Answer {
    let heads = 2;
    let texts = [
        TextSpan::whole(0, 9),
        TextSpan::whole(9, 1),
        TextSpan { first: 10, tokens: 37, keys: 30 },
    ];
    let qkv = values(12, 47 * 3 * heads * head, 1.5, builder.activations);
    let x = activations(builder, &qkv, 3 * heads * head);
    let y = attention::attention(builder, x, &texts, heads, head);
    Answer { y, expected: reference::attention(&qkv, &texts, heads, head) }
}

fn attention_whole(builder: &mut Builder) -> Answer {
    attention_whole_answer(builder, 8)
}

fn attention_whole_of_matrices(builder: &mut Builder) -> Answer {
    attention_whole_answer(builder, 32)
}

/// Tests attention with keys that all query heads share, a window, and a bias that raises the score from each key to
/// the next.
fn attention_whole_answer(builder: &mut Builder, head: usize) -> Answer {
    let texts = [TextSpan::whole(0, 9), TextSpan::whole(9, 1), TextSpan::whole(10, 90)];
    let window = attention::Attention {
        kv_heads: 1,
        before: Some(35),
        after: Some(3),
        ..attention::Attention::new(2, head)
    };
    let [q, k, v] = [(12, 2 * head), (21, head), (22, head)]
        .map(|(seed, w)| values(seed, 100 * w, 1.5, builder.activations));
    let at = [(&q, 2 * head), (&k, head), (&v, head)]
        .map(|(x, w)| attention::Heads { of: activations(builder, x, w), head: 0 });
    let bias = |head: usize, distance: i64| distance as f32 * 0.1 * (head + 1) as f32;
    let table = attention::distance_bias(builder, 2, 90, bias);
    let y = attention::attend(builder, at, &texts, &window, Some(table));
    Answer { y, expected: reference::attend([&q, &k, &v], &texts, &window, bias) }
}

/// Tests attention with relative keys and queries.
fn attention_relative(builder: &mut Builder) -> Answer {
    let (heads, head, cut) = (2, 8, 20i64);
    let texts = [
        TextSpan::whole(0, 9),
        TextSpan::whole(9, 1),
        TextSpan { first: 10, tokens: 37, keys: 30 },
    ];
    let [q, k, v] = [12, 21, 22].map(|seed| values(seed, 47 * 16, 1.5, builder.activations));
    let [queries, keys] = [23, 24].map(|seed| values(seed, 40 * 16, 1.5, Storage::F32));
    let row = |distance: i64| (distance.clamp(-cut, cut - 1) + cut) as u32;
    let at = [&q, &k, &v].map(|x| attention::Heads { of: activations(builder, x, 16), head: 0 });
    let beside: Vec<f32> =
        queries.chunks(16).zip(keys.chunks(16)).flat_map(|(q, k)| [q, k].concat()).collect();
    let of = stored_rows(builder, &beside, 32, Storage::F32);
    let (rows, reach) = attention::relative_rows(builder, 37, row);
    let relative = attention::Relative { of, rows, reach, keys: Some(heads), queries: Some(0) };
    let plain = attention::Attention::new(heads, head);
    let y = attention::attend_relative(builder, at, &texts, &plain, &relative);
    let terms = [Some(&keys[..]), Some(&queries[..])];
    Answer { y, expected: reference::attend_relative([&q, &k, &v], &texts, &plain, terms, row) }
}

/// Tests pooling by maximum, mean and weighted mean. These are all the kernel's branches that do arithmetic.
fn pool_answer(builder: &mut Builder) -> Answer {
    let (width, modes) = (30, [1, 2, 4]);
    let spans = [[0, 9, 2, 0], [9, 1, 0, 0], [10, 37, 0, 0]];
    let x = values(13, 47 * width, 3.0, builder.activations);
    let x_t = activations(builder, &x, width);
    let y = pool::pool(builder, x_t, &spans, &modes);
    let row = |span: &[u32; 4]| modes.map(|mode| reference::pool(&x, width, *span, mode)).concat();
    Answer { y, expected: spans.iter().flat_map(row).collect() }
}

fn normalize_answer(builder: &mut Builder) -> Answer {
    let (rows, width) = (5, 70);
    let mut x = values(14, rows * width, 5.0, Storage::F32);
    x[..width].fill(0.0);
    let x_t = stored_rows(builder, &x, width, Storage::F32);
    let y = normalize_l2::normalize_l2(builder, x_t);
    Answer { y, expected: reference::normalize_l2(&x, width) }
}

#[cfg(test)]
mod tests {
    use super::ANSWERS;
    use crate::dtype::{CheckpointDtype, FloatDtype, Precision, Storage};
    use crate::kernels::{ALL, Builder, KernelPlan};

    #[test]
    fn every_kernel_of_all_has_a_known_answer() {
        let own = KernelPlan::of_gpu();
        for kernel in ALL {
            let answers: Vec<_> = ANSWERS.iter().filter(|a| a.kernel == *kernel).collect();
            let [answer] = answers[..] else {
                panic!("kernel {} has {} known answers, not one", kernel.name, answers.len())
            };
            let mut plans = 0;
            for storage in [Storage::F32, Storage::F16] {
                let precision = Precision {
                    requested: Default::default(),
                    checkpoint: CheckpointDtype {
                        dtype: FloatDtype::Float32,
                        source: String::new(),
                        reasons: Vec::new(),
                    },
                    weights: storage,
                    activations: storage,
                    weight_bytes: 0,
                    reasons: Vec::new(),
                    measured: None,
                };
                let Some(plan) = answer.family.plan(&own, (storage, storage)) else { continue };
                plans += 1;
                assert!(!answer.runs.is_empty(), "{}", kernel.name);
                for run in answer.runs {
                    let mut builder = Builder::new(&plan, &precision);
                    let made = run(&mut builder);
                    assert!(!builder.graph.dispatches.is_empty(), "{}", kernel.name);
                    let other = builder.graph.dispatches.iter().find(|d| d.kernel != *kernel);
                    assert!(other.is_none(), "{}: its answer runs {other:?}", kernel.name);
                    assert_eq!(made.expected.len(), made.y.rows * made.y.width, "{}", kernel.name);
                    let flat = made.expected.iter().all(|value| *value == made.expected[0]);
                    assert!(
                        !flat,
                        "{}: all expected values are equal, so a cleared buffer would pass",
                        kernel.name
                    );
                }
            }
            assert!(plans > 0, "{}", kernel.name);
        }
        assert_eq!(ANSWERS.len(), ALL.len());
    }
}
