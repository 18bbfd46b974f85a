use vectile::dtype::Storage;
use vectile::gpu::executor::Executor;
use vectile::kernels::attention::{self, Attention, Heads, Text};
use vectile::kernels::{Builder, KernelPlan, fill_rows, reference};

use crate::{activations, assert_close, bench, plans, precision, run, storages, values};

/// Texts packed without gaps, whose last `unseen` tokens are no keys, but for the first, which always is.
fn packed(lengths: &[u32], unseen: u32) -> Vec<Text> {
    let mut first = 0;
    lengths
        .iter()
        .map(|length| {
            first += length;
            [first - length, *length, length.saturating_sub(unseen).max(1)]
        })
        .collect()
}

/// Where queries, keys and values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    /// All in the rows of one tensor.
    Together,
    /// Queries and keys in one, values behind them in another, as after `rope`.
    ValuesApart,
    /// A tensor each.
    Apart,
}

struct Case<'a> {
    lengths: &'a [u32],
    /// Tokens at the end of each text that are no keys.
    unseen: u32,
    attention: Attention,
    layout: Layout,
    /// A bias of this much a token of distance, by head.
    slope: Option<f32>,
    spread: f32,
    max_flops: u64,
}

impl Case<'_> {
    fn bias(&self, head: usize, distance: i64) -> f32 {
        // Different before and after, so that a sign turned round shows.
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

    fn check_one(&self, executor: &mut Executor, plan: KernelPlan, acts: Storage) {
        let Attention { heads, kv_heads, head, .. } = self.attention;
        let texts = packed(self.lengths, self.unseen);
        let tokens = self.lengths.iter().sum::<u32>() as usize;
        let [q, k, v] = [(1, heads), (2, kv_heads), (3, kv_heads)]
            .map(|(seed, heads)| values(seed, tokens * heads * head, self.spread, acts));
        // The rows of some of them side by side, each head filled up to whole cells.
        let filled = head.next_multiple_of(4);
        let beside = |parts: &[(&[f32], usize)]| -> Vec<f32> {
            (0..tokens)
                .flat_map(|token| {
                    parts.iter().flat_map(move |(x, heads)| {
                        fill_rows(&x[token * heads * head..][..heads * head], head)
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
        let (got, _) = run(executor, builder, y);
        let got: Vec<f32> = got.chunks_exact(filled).flat_map(|h| h[..head].to_vec()).collect();
        let expected =
            reference::attend([&q, &k, &v], &texts, &self.attention, |h, d| self.bias(h, d));
        let what = format!(
            "{:?} less {} {:?} {:?} {:?} {acts} software {}",
            self.lengths, self.unseen, self.attention, self.layout, self.slope, plan.software
        );
        // The error of a score, |q||k| in f32, is the relative error of its weight.
        let tolerance = 5e-6 * f64::from(self.spread.max(1.0)).powi(2);
        assert_close(&what, &got, &expected, acts, tolerance);
    }
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
fn one_long_text_and_one_token() {
    Case { spread: 2.0, ..case(&[257, 1], Attention::new(1, 16)) }.check();
}

#[test]
fn head_sizes() {
    for head in [1, 6, 64, 80, 256] {
        case(&[5, 37], Attention::new(2, head)).check();
    }
}

#[test]
fn sharp_scores() {
    Case { spread: 20.0, ..case(&[40, 65], Attention::new(2, 32)) }.check();
}

#[test]
fn work_cut_into_pieces() {
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

#[test]
fn windows_at_their_edges() {
    let plain = Attention::new(1, 8);
    // Windows below, at and beyond blocks of keys and tiles of queries; texts that end at a multiple
    // of the window or beside it.
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
fn tokens_that_see_and_are_not_seen() {
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

/// Keys and queries for distances up to `cut`, one row for all that are further, in each of the ways
/// that they may lie.
fn check_relative(
    lengths: &[u32],
    unseen: u32,
    attention: Attention,
    cut: i64,
    terms: [bool; 2],
    max_flops: u64,
) {
    let Some(mut bench) = bench() else { return };
    let Attention { heads, head, .. } = attention;
    let texts = packed(lengths, unseen);
    let tokens = lengths.iter().sum::<u32>() as usize;
    let longest = lengths.iter().copied().max().unwrap_or(1) as usize;
    let filled = head.next_multiple_of(4);
    let row = |distance: i64| (distance.clamp(-cut, cut - 1) + cut) as u32;
    for executor in &mut bench.executors {
        for plan in plans(executor) {
            for acts in storages(executor) {
                let part = |seed| values(seed, tokens * heads * head, 1.0, acts);
                let [q, k, v] = [part(1), part(2), part(3)];
                let rows = 2 * cut as usize;
                let [keys, queries] =
                    [4, 5].map(|seed| values(seed, rows * heads * head, 1.0, Storage::F32));
                let mut builder =
                    Builder::new(&KernelPlan { max_flops, ..plan.clone() }, &precision(acts, acts));
                let at = [&q, &k, &v].map(|x| {
                    let x = fill_rows(x, head);
                    let of = activations(&mut builder, "heads", &x, heads * filled, acts);
                    Heads { of, head: 0 }
                });
                // Queries before keys, and a head of something else before both.
                let parts: Vec<&[f32]> = [(terms[1], &queries), (terms[0], &keys)]
                    .into_iter()
                    .filter_map(|(there, part)| there.then_some(&part[..]))
                    .collect();
                let width = heads * head;
                let beside: Vec<f32> = (0..rows)
                    .flat_map(|row| {
                        let other = vec![9.0; filled];
                        let parts = parts
                            .iter()
                            .flat_map(move |part| fill_rows(&part[row * width..][..width], head));
                        other.into_iter().chain(parts)
                    })
                    .collect();
                let wide = filled + parts.len() * heads * filled;
                let of = activations(&mut builder, "relative", &beside, wide, Storage::F32);
                let (table, reach) = attention::relative_rows(&mut builder, longest, row);
                let relative = attention::Relative {
                    of,
                    rows: table,
                    reach,
                    keys: terms[0].then_some(1 + if terms[1] { heads } else { 0 }),
                    queries: terms[1].then_some(1),
                };
                let y = attention::attend_relative(&mut builder, at, &texts, &attention, &relative);
                let (got, _) = run(executor, builder, y);
                let got: Vec<f32> =
                    got.chunks_exact(filled).flat_map(|h| h[..head].to_vec()).collect();
                let given = [terms[0].then_some(&keys[..]), terms[1].then_some(&queries[..])];
                let expected =
                    reference::attend_relative([&q, &k, &v], &texts, &attention, given, row);
                let what = format!(
                    "{lengths:?} less {unseen} {attention:?} cut {cut} {terms:?} {acts} software {}",
                    plan.software
                );
                assert_close(&what, &got, &expected, acts, 1e-5);
            }
        }
    }
}

#[test]
fn keys_and_queries_that_stand_for_distances() {
    let lengths = [1, 3, 7, 8, 9, 31, 33, 63, 64, 65, 129];
    check_relative(&lengths, 0, Attention::new(2, 8), 33, [true, true], u64::MAX);
    check_relative(&lengths, 6, Attention::new(1, 8), 33, [true, true], u64::MAX);
}

#[test]
fn either_of_them_alone() {
    for terms in [[true, false], [false, true]] {
        check_relative(&[1, 5, 70], 0, Attention::new(3, 10), 16, terms, u64::MAX);
    }
}

#[test]
fn distances_within_windows_and_work_in_pieces() {
    let attention = Attention { before: Some(20), after: Some(9), ..Attention::new(2, 6) };
    check_relative(&[1, 20, 41, 97], 0, attention, 200, [true, true], 1);
}
