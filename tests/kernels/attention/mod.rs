mod relative;

use vectile::dtype::Storage;
use vectile::executor::Executor;
use vectile::kernels::attention::{self, Attention, Heads, TextSpan};
use vectile::kernels::{Builder, KernelPlan, pad_rows, reference};

use crate::shapes::Shapes;
use crate::{
    activations, assert_close, bench, only_matrices, plans, precision, run, shapes, storages,
    values,
};

/// Texts packed without gaps. The last `unseen` tokens of each text are not keys, but its first token always is.
fn packed(lengths: &[u32], unseen: u32) -> Vec<TextSpan> {
    let mut first = 0;
    lengths
        .iter()
        .map(|length| {
            first += length;
            TextSpan {
                first: first - length,
                tokens: *length,
                keys: length.saturating_sub(unseen).max(1),
            }
        })
        .collect()
}

/// The tensors that hold queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    /// Queries, keys and values in one tensor.
    Together,
    /// Queries and keys in one tensor, and values behind them in another, as after `rope`.
    ValuesApart,
    /// Queries, keys and values each in their own tensor.
    Apart,
}

struct Case<'a> {
    lengths: &'a [u32],
    /// The number of tokens at the end of each text that are not keys.
    unseen: u32,
    attention: Attention,
    layout: Layout,
    /// The slope of a bias by distance, for each head.
    slope: Option<f32>,
    spread: f32,
    max_flops: u64,
}

impl Case<'_> {
    fn bias(&self, head: usize, distance: i64) -> f32 {
        // The bias differs before and after the query, so that a wrong sign is noticed.
        let distance = if distance < 0 { -1.5 * distance as f32 } else { distance as f32 };
        self.slope.map_or(0.0, |slope| slope * distance * (head + 1) as f32)
    }

    fn check(&self) {
        let Some(mut bench) = bench() else { return };
        for executor in &mut bench.executors {
            for plan in plans(executor) {
                for acts in storages(executor) {
                    self.check_one(
                        executor,
                        KernelPlan { max_flops: self.max_flops, ..plan.clone() },
                        acts,
                    );
                }
            }
        }
    }

    /// As `check`, but only with subgroups and without packed storages. The variants left out differ only in loads and
    /// stores, and drivers take long to compile wide heads.
    fn check_some(&self) {
        let Some(mut bench) = bench() else { return };
        let executor = &mut bench.executors[0];
        for plan in plans(executor) {
            for acts in plain_storages(executor) {
                let plan = KernelPlan { max_flops: self.max_flops, ..plan.clone() };
                self.check_one(executor, plan, acts);
            }
        }
    }

    fn check_one(&self, executor: &mut Executor, plan: KernelPlan, acts: Storage) {
        let Attention { heads, kv_heads, head, .. } = self.attention;
        let texts = packed(self.lengths, self.unseen);
        let tokens = self.lengths.iter().sum::<u32>() as usize;
        let [q, k, v] = [(1, heads), (2, kv_heads), (3, kv_heads)]
            .map(|(seed, heads)| values(seed, tokens * heads * head, self.spread, acts));
        // Puts the heads of several parts side by side in each row, with each head padded to whole cells.
        let filled = head.next_multiple_of(4);
        let beside = |parts: &[(&[f32], usize)]| -> Vec<f32> {
            (0..tokens)
                .flat_map(|token| {
                    parts.iter().flat_map(move |(x, heads)| {
                        pad_rows(&x[token * heads * head..][..heads * head], head)
                    })
                })
                .collect()
        };
        let mut builder = Builder::new(&plan, &precision(acts, acts));
        let mut tensor = |parts: &[(&[f32], usize)]| {
            let heads: usize = parts.iter().map(|(_, heads)| heads).sum();
            activations(&mut builder, "heads", &beside(parts), heads * filled, acts)
        };
        let (queries, keys, vals) = ((&q[..], heads), (&k[..], kv_heads), (&v[..], kv_heads));
        let at = match self.layout {
            Layout::Together => {
                let of = tensor(&[queries, keys, vals]);
                [0, heads, heads + kv_heads].map(|head| Heads { of, head })
            }
            Layout::ValuesApart => {
                let (of, other) = (tensor(&[queries, keys]), tensor(&[queries, keys, vals]));
                let values = Heads { of: other, head: heads + kv_heads };
                [Heads { of, head: 0 }, Heads { of, head: heads }, values]
            }
            Layout::Apart => {
                [queries, keys, vals].map(|part| Heads { of: tensor(&[part]), head: 0 })
            }
        };
        let longest = self.lengths.iter().copied().max().unwrap_or(1) as usize;
        let bias = self.slope.map(|_| {
            attention::distance_bias(&mut builder, heads, longest, |h, d| self.bias(h, d))
        });
        let y = attention::attend(&mut builder, at, &texts, &self.attention, bias);
        let matrices = builder.graph.dispatches.iter().any(|d| d.kernel.cooperative);
        let (got, _) = run(executor, builder, y);
        let got: Vec<f32> = got.chunks_exact(filled).flat_map(|h| h[..head].to_vec()).collect();
        let expected =
            reference::attend([&q, &k, &v], &texts, &self.attention, |h, d| self.bias(h, d));
        let what = format!(
            "{:?} less {} {:?} {:?} {:?} {acts} software {}",
            self.lengths, self.unseen, self.attention, self.layout, self.slope, plan.software
        );
        // The absolute error of a score grows with |q||k|, and is the relative error of the weight.
        let spread = f64::from(self.spread.max(1.0));
        let mut tolerance = 5e-6 * spread.powi(2);
        if matrices {
            // The softmax weights are f16, so their rounding is added.
            tolerance += spread * 2f64.powi(-11);
        }
        assert_close(&what, &got, &expected, acts, tolerance);
    }
}

fn plain_storages(executor: &Executor) -> Vec<Storage> {
    let plain = |storage: &Storage| [Storage::F32, Storage::F16].contains(storage);
    storages(executor).into_iter().filter(plain).collect()
}

fn case(lengths: &[u32], attention: Attention) -> Case<'_> {
    let layout = Layout::Together;
    Case { lengths, unseen: 0, attention, layout, slope: None, spread: 1.0, max_flops: u64::MAX }
}

#[test]
fn ragged_texts() {
    case(&[1, 3, 63, 64, 65, 7, 8, 9, 31, 32, 33], Attention::new(2, 32)).check();
}

#[test]
fn random_shapes() {
    shapes::each("attention", |shapes| {
        let lengths: Vec<u32> = (0..shapes.size(6)).map(|_| shapes.size(140) as u32).collect();
        let window = |shapes: &mut Shapes| shapes.coin().then(|| shapes.size(140) - 1);
        let kv_heads = shapes.pick(&[1, 2, 3]);
        let head = shapes.pick(&[1, 6, 8, 16, 30, 32, 64, 80]);
        let heads = kv_heads * shapes.pick(&[1, 2]);
        let (before, after) = (window(shapes), window(shapes));
        let attention = Attention { kv_heads, before, after, ..Attention::new(heads, head) };
        Case {
            unseen: shapes.pick(&[0, 0, 1, 30]),
            layout: shapes.pick(&[Layout::Together, Layout::ValuesApart, Layout::Apart]),
            slope: shapes.pick(&[None, None, Some(0.05), Some(-0.3)]),
            spread: shapes.pick(&[0.01, 1.0, 5.0]),
            max_flops: shapes.pick(&[u64::MAX, 50_000]),
            ..case(&lengths, attention)
        }
        .check_some();
    });
}

#[test]
fn one_long_text_and_one_token() {
    Case { spread: 2.0, ..case(&[257, 1], Attention::new(1, 16)) }.check();
}

#[test]
fn head_sizes() {
    for head in [1, 6, 16, 30, 32, 64, 80] {
        case(&[5, 37], Attention::new(2, head)).check();
    }
}

#[test]
fn split_heads_and_heads_that_cannot_be_split() {
    for head in [4, 68, 96, 128, 256] {
        // Cooperative matrices are not tested with wide heads, since the software driver takes half a minute to compile
        // each.
        if only_matrices() && head > 128 {
            continue;
        }
        case(&[1, 3, 7, 8, 9, 63, 64, 65, 257], Attention::new(1, head)).check_some();
    }
}

/// Tests shared keys, windows on one side or both, and a bias together, for various heads.
#[test]
fn everything_at_once() {
    let heads: &[usize] = if only_matrices() { &[16, 30, 80] } else { &[16, 30, 80, 128, 256] };
    for head in heads {
        for (before, after) in [(Some(40), Some(3)), (None, Some(0))] {
            let attention = Attention { kv_heads: 1, before, after, ..Attention::new(2, *head) };
            let plain = case(&[1, 9, 64, 65, 130], attention);
            Case {
                unseen: 2,
                slope: Some(0.05),
                layout: Layout::Apart,
                max_flops: 50_000,
                ..plain
            }
            .check_some();
        }
    }
}

#[test]
fn sharp_scores() {
    Case { spread: 20.0, ..case(&[40, 65], Attention::new(2, 32)) }.check();
}

#[test]
fn split_dispatches() {
    Case { max_flops: 1, ..case(&[70, 3, 130, 5], Attention::new(2, 8)) }.check();
}

#[test]
fn keys_that_several_heads_of_queries_share() {
    for (heads, kv_heads, layout) in
        [(4, 2, Layout::Together), (6, 2, Layout::ValuesApart), (3, 1, Layout::Apart)]
    {
        let attention = Attention { kv_heads, ..Attention::new(heads, 8) };
        Case { layout, ..case(&[1, 65, 33], attention) }.check();
    }
}

#[test]
fn a_scale_of_its_own() {
    case(&[5, 70], Attention { scale: 1.0, ..Attention::new(2, 6) }).check();
}

#[test]
fn causal() {
    let attention = Attention { after: Some(0), ..Attention::new(2, 8) };
    case(&[1, 3, 31, 32, 33, 63, 64, 65, 129], attention).check();
}

/// The rows of attention over texts, `[heads · head]` for each token.
fn rows_of(
    executor: &mut Executor,
    plan: &KernelPlan,
    attention: &Attention,
    texts: &[TextSpan],
    [q, k, v]: [&[f32]; 3],
    acts: Storage,
) -> Vec<f32> {
    let mut builder = Builder::new(plan, &precision(acts, acts));
    let Attention { heads, kv_heads, head, .. } = *attention;
    let at = [(q, heads), (k, kv_heads), (v, kv_heads)].map(|(x, heads)| Heads {
        of: activations(&mut builder, "heads", x, heads * head, acts),
        head: 0,
    });
    let y = attention::attend(&mut builder, at, texts, attention, None);
    run(executor, builder, y).0
}

#[test]
fn a_text_is_bit_identical_in_any_batch() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let lengths = [70, 3, 130, 5, 64];
    let texts = packed(&lengths, 0);
    let tokens = lengths.iter().sum::<u32>() as usize;
    for (head, before, after) in [(32, None, None), (80, None, Some(0)), (8, Some(20), Some(20))] {
        let attention = Attention { before, after, ..Attention::new(2, head) };
        for plan in plans(executor) {
            for acts in plain_storages(executor) {
                let x = [1, 2, 3].map(|seed| values(seed, tokens * 2 * head, 3.0, acts));
                let [q, k, v] = &x;
                let whole = rows_of(executor, &plan, &attention, &texts, [q, k, v], acts);
                let cut = KernelPlan { max_flops: 1, ..plan.clone() };
                let pieces = rows_of(executor, &cut, &attention, &texts, [q, k, v], acts);
                assert_eq!(pieces, whole, "{attention:?} {acts}: a head of a tile a dispatch");
                for TextSpan { first, tokens, keys } in &texts {
                    let own = first * 2 * head as u32..(first + tokens) * 2 * head as u32;
                    let own = own.start as usize..own.end as usize;
                    let part = [q, k, v].map(|x| &x[own.clone()]);
                    let text = [TextSpan { first: 0, tokens: *tokens, keys: *keys }];
                    let alone = rows_of(executor, &plan, &attention, &text, part, acts);
                    assert_eq!(alone, whole[own], "{attention:?} {acts}: {tokens} tokens alone");
                }
            }
        }
    }
}

/// One tile with all heads exceeds the limit of a dispatch, so its heads are split.
#[test]
fn a_text_of_8192_tokens() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let attention = Attention { kv_heads: 1, ..Attention::new(2, 8) };
    let tokens = 8192;
    let acts = if only_matrices() { Storage::F16 } else { Storage::F32 };
    let [q, k, v] = [(1, 16), (2, 8), (3, 8)].map(|(seed, w)| values(seed, tokens * w, 2.0, acts));
    let texts = [TextSpan::whole(0, tokens as u32)];
    // These queries lie at the ends of tiles and in their middle.
    let some = [0, 31, 32, 63, 64, 4095, 5000, 8128, 8191];
    let few: Vec<f32> = some.iter().flat_map(|at| &q[at * 16..][..16]).copied().collect();
    let seen = [TextSpan { first: 0, tokens: some.len() as u32, keys: tokens as u32 }];
    let expected = reference::attend([&few, &k, &v], &seen, &attention, |_, _| 0.0);
    for plan in plans(executor) {
        let plan = KernelPlan { max_flops: 20_000_000, ..plan };
        let rows = rows_of(executor, &plan, &attention, &texts, [&q, &k, &v], acts);
        let got: Vec<f32> = some.iter().flat_map(|at| &rows[at * 16..][..16]).copied().collect();
        let what = format!("software {}", plan.software);
        assert_close(&what, &got, &expected, acts, if only_matrices() { 1e-3 } else { 2e-5 });
    }
}

#[test]
fn windows_at_their_edges() {
    let plain = Attention::new(1, 8);
    // The windows are smaller than blocks of keys and tiles of queries, as large, or larger. The texts end at a
    // multiple of the window or next to it.
    for window in [0, 1, 7, 8, 31, 32, 64, 65, 1000] {
        let lengths: Vec<u32> =
            [1, 2, 3].iter().flat_map(|k| [k * window, k * window + 1, k * window + 2]).collect();
        let lengths: Vec<u32> =
            lengths.into_iter().map(|n| n.clamp(1, 200)).chain([1, 97]).collect();
        let window = window as usize;
        for (before, after) in [
            (Some(window), Some(window)),
            (Some(window), Some(0)),
            (None, Some(window)),
            (Some(window), None),
        ] {
            let attention = Attention { before, after, ..plain };
            let Some(mut bench) = bench() else { return };
            let executor = &mut bench.executors[0];
            for plan in plans(executor) {
                case(&lengths, attention).check_one(executor, plan, Storage::F32);
            }
        }
    }
}

#[test]
fn windows_in_every_storage() {
    let attention = Attention { before: Some(20), after: Some(20), ..Attention::new(2, 8) };
    Case { max_flops: 20000, ..case(&[1, 19, 20, 21, 41, 150], attention) }.check();
}

#[test]
fn tokens_that_are_queries_but_not_keys() {
    let plain = Attention::new(2, 8);
    let lengths = [1, 2, 7, 8, 9, 31, 32, 33, 40, 63, 64, 65, 129];
    for (unseen, attention) in [
        (1, plain),
        (27, plain),
        (200, plain),
        (5, Attention { after: Some(0), ..plain }),
        (20, Attention { before: Some(150), after: Some(3), ..plain }),
    ] {
        Case { unseen, ..case(&lengths, attention) }.check();
    }
    let biased = Case { slope: Some(-0.3), max_flops: 20000, ..case(&lengths, plain) };
    Case { unseen: 30, ..biased }.check();
}

#[test]
fn a_bias_by_distance() {
    for slope in [-0.3, 0.05] {
        for (before, after) in [(None, None), (Some(9), Some(2))] {
            let attention = Attention { before, after, ..Attention::new(3, 8) };
            Case { slope: Some(slope), ..case(&[1, 2, 31, 33, 65, 70], attention) }.check();
        }
    }
}
