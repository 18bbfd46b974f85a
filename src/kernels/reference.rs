//! Each kernel in plain Rust, in f64 and as simple as possible. Tests compare the WGSL kernels with these functions.
//!
//! Matrices are row-major slices without padding.

use crate::kernels::Activation;
use crate::kernels::attention::{Attention, TextSpan};
use crate::kernels::rope::Rope;
use crate::similarity::SimilarityFunction;

/// Returns the value of an activation function at `x`.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

/// Returns the error function at `x`, accurate to 1e-15. The function uses the Taylor series near zero, and the
/// continued fraction of erfc elsewhere (Abramowitz and Stegun 7.1.5 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        let mut term = a;
        let mut sum = a;
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return x.signum() * sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = 0.0;
    for n in (1..100).rev() {
        fraction = f64::from(n) / 2.0 / (a + fraction);
    }
    let erfc = (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction);
    x.signum() * (1.0 - erfc)
}

/// Returns sums of table rows, `[rows, width]`.
pub fn lookup(rows: &[[u32; 4]], tables: [&[f32]; 3], width: usize) -> Vec<f64> {
    lookup_of(rows, &tables, width, 1.0)
}

/// Like [`lookup`], but takes any number of tables and multiplies the sums by `scale`.
pub fn lookup_of(rows: &[[u32; 4]], tables: &[&[f32]], width: usize, scale: f32) -> Vec<f64> {
    let mut x = Vec::new();
    for row in rows {
        for column in 0..width {
            let value = |t: usize| f64::from(tables[t][row[t] as usize * width + column]);
            x.push((0..tables.len()).map(value).sum::<f64>() * f64::from(scale));
        }
    }
    x
}

/// Returns the layer normalisation of each row of x + residual.
pub fn layer_norm(
    x: &[f32],
    residual: Option<&[f32]>,
    weight: &[f32],
    bias: &[f32],
    eps: f64,
) -> Vec<f64> {
    let width = weight.len();
    let mut y = Vec::new();
    for (row, values) in x.chunks_exact(width).enumerate() {
        let v: Vec<f64> = (0..width)
            .map(|i| f64::from(values[i]) + residual.map_or(0.0, |r| f64::from(r[row * width + i])))
            .collect();
        let mean = v.iter().sum::<f64>() / width as f64;
        let variance = v.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend(
            (0..width).map(|i| (v[i] - mean) * scale * f64::from(weight[i]) + f64::from(bias[i])),
        );
    }
    y
}

/// Returns the root mean square normalisation of each row of x, plus the residual.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f64, residual: Option<&[f32]>) -> Vec<f64> {
    let width = weight.len();
    let mut y = Vec::new();
    for (row, values) in x.chunks_exact(width).enumerate() {
        let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = 1.0 / (squares / width as f64 + eps).sqrt();
        y.extend((0..width).map(|i| {
            let residual = residual.map_or(0.0, |r| f64::from(r[row * width + i]));
            f64::from(values[i]) * scale * f64::from(weight[i]) + residual
        }));
    }
    y
}

/// Normalises and rotates heads `[tokens, heads + kv_heads, head]`. The norm has weights `[2, head]` and an epsilon.
/// For each token, `rows` names the row of `angles`, which is `[positions, pairs]`.
pub fn rope(
    x: &[f32],
    rows: &[u32],
    angles: (&[[f32; 2]], usize),
    rope: &Rope,
    (weight, eps): (&[f32], f64),
) -> Vec<f64> {
    let heads = rope.heads + rope.kv_heads;
    let mut y = Vec::new();
    for (at, values) in x.chunks_exact(rope.head).enumerate() {
        let keys = usize::from(at % heads >= rope.heads);
        y.extend(rms_norm(values, &weight[keys * rope.head..][..rope.head], eps, None));
    }
    rotated(&y, rows, angles, [heads * rope.head, heads, rope.head])
}

/// Rotates pairs of neighbouring values in the first `heads` heads of each row of `width` values.
pub fn rotated(
    x: &[f64],
    rows: &[u32],
    (angles, pairs): (&[[f32; 2]], usize),
    [width, heads, head]: [usize; 3],
) -> Vec<f64> {
    let mut y = x.to_vec();
    for (values, row) in y.chunks_exact_mut(width).zip(rows) {
        for values in values.chunks_exact_mut(head).take(heads) {
            for (pair, values) in values.chunks_exact_mut(2).take(pairs).enumerate() {
                let [cos, sin] = angles[*row as usize * pairs + pair].map(f64::from);
                let [a, b] = [values[0], values[1]];
                (values[0], values[1]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
    y
}

/// Returns activation(gate) · other for rows of `width` values. In each row, four values of the gate alternate with
/// four values of the other factor.
pub fn gate(x: &[f64], width: usize, activation: Activation) -> Vec<f64> {
    let pairs = x.chunks_exact(width).flat_map(|row| row.chunks_exact(8));
    pairs.flat_map(|pair| (0..4).map(|i| activate(activation, pair[i]) * pair[i + 4])).collect()
}

/// Returns activation(x · wᵀ + bias) + residual, with `w` as checkpoints store it, `[columns, inner]`.
pub fn matmul(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f64> {
    let columns = bias.len();
    let inner = w.len() / columns;
    let mut y = Vec::new();
    for (r, row) in x.chunks_exact(inner).enumerate() {
        for c in 0..columns {
            let dot: f64 = row
                .iter()
                .zip(&w[c * inner..][..inner])
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            let value = activate(activation, dot + f64::from(bias[c]));
            y.push(value + residual.map_or(0.0, |res| f64::from(res[r * columns + c])));
        }
    }
    y
}

/// Returns the `top` largest values of softmax(x · wᵀ) for each row of x, as pairs (expert, weight) side by side. `w`
/// is `[experts, inner]`. Among equal values, the expert with the lower number comes first.
pub fn route(x: &[f32], w: &[f32], experts: usize, top: usize) -> Vec<f64> {
    let inner = w.len() / experts;
    let logits = matmul(x, w, &vec![0.0; experts], Activation::None, None);
    let mut choices = Vec::with_capacity(x.len() / inner * 2 * top);
    for row in logits.chunks_exact(experts) {
        let largest = row.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = row.iter().map(|l| (l - largest).exp()).sum();
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        choices.extend(
            order[..top].iter().flat_map(|e| [*e as f64, (row[*e] - largest).exp() / total]),
        );
    }
    choices
}

/// Sorts rows by expert, given the expert of each row. Returns pairs (row, expert). The rows of each expert are padded
/// to whole tiles with row −1. The slots after the last expert have row −1 and expert 0.
pub fn group_rows(of_row: &[usize], experts: usize, tile: usize, slots: usize) -> Vec<f64> {
    let mut order = Vec::with_capacity(2 * slots);
    for expert in 0..experts {
        let rows = of_row.iter().enumerate().filter(|(_, of)| **of == expert);
        order.extend(rows.flat_map(|(row, _)| [row as f64, expert as f64]));
        while order.len() % (2 * tile) != 0 {
            order.extend([-1.0, expert as f64]);
        }
    }
    while order.len() < 2 * slots {
        order.extend([-1.0, 0.0]);
    }
    order
}

/// Multiplies each row by the matrix of its expert, which `of_row` names. `w` is `[experts, columns, inner]`. Row r of
/// the result is computed from row r / `share` of x, rounded down, so `share` successive rows have the same input.
pub fn matmul_experts(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    activation: Activation,
    of_row: &[usize],
    share: usize,
) -> Vec<f64> {
    let inner = x.len() * share / of_row.len();
    let matrix = bias.len() * inner;
    let row = |(r, expert): (usize, &usize)| {
        let (x, w) = (&x[r / share * inner..][..inner], &w[expert * matrix..][..matrix]);
        matmul(x, w, bias, activation, None)
    };
    of_row.iter().enumerate().flat_map(row).collect()
}

/// Returns Σ weight · x + bias over the rows of each token. `choices` are pairs (expert, weight), one for each row of
/// x.
pub fn combine(x: &[f32], choices: &[f32], top: usize, bias: &[f32]) -> Vec<f64> {
    let width = bias.len();
    let mut y = Vec::new();
    for (rows, pairs) in x.chunks_exact(top * width).zip(choices.chunks_exact(2 * top)) {
        y.extend((0..width).map(|i| {
            let term = |j: usize| f64::from(pairs[2 * j + 1]) * f64::from(rows[j * width + i]);
            (0..top).map(term).sum::<f64>() + f64::from(bias[i])
        }));
    }
    y
}

/// Returns softmax(q · kᵀ / √head) · v, `[tokens, heads, head]`, where `qkv` is `[tokens, 3, heads, head]`.
pub fn attention(qkv: &[f32], texts: &[TextSpan], heads: usize, head: usize) -> Vec<f64> {
    let width = heads * head;
    let part = |part: usize| -> Vec<f32> {
        qkv.chunks_exact(3 * width).flat_map(|t| t[part * width..][..width].to_vec()).collect()
    };
    let parts = [part(0), part(1), part(2)];
    let plain = Attention::new(heads, head);
    attend([&parts[0], &parts[1], &parts[2]], texts, &plain, |_, _| 0.0)
}

/// Returns softmax(q · kᵀ · scale + bias(head, key − query)) · v over the keys that a query sees. Queries are `[tokens,
/// heads, head]`, and keys and values are `[tokens, kv_heads, head]`.
pub fn attend(
    qkv: [&[f32]; 3],
    texts: &[TextSpan],
    attention: &Attention,
    bias: impl Fn(usize, i64) -> f32,
) -> Vec<f64> {
    attend_with(qkv, texts, attention, |h, query, key| {
        f64::from(bias(h, key as i64 - query as i64))
    })
}

/// Like [`attend`], but with relative positions instead of a bias. `q · keys[row(d)] + k · queries[row(d)]` is added to
/// `q · k`. `row(d)` is the row for the distance d: the key's position minus the query's position. `keys` and `queries`
/// are `[rows, heads, head]`.
pub fn attend_relative(
    [q, k, v]: [&[f32]; 3],
    texts: &[TextSpan],
    attention: &Attention,
    [keys, queries]: [Option<&[f32]>; 2],
    row: impl Fn(i64) -> u32,
) -> Vec<f64> {
    let Attention { heads, head, .. } = *attention;
    let part =
        |x: &[f32], row: usize, h: usize, i: usize| f64::from(x[(row * heads + h) * head + i]);
    attend_with([q, k, v], texts, attention, |h, query, key| {
        let row = row(key as i64 - query as i64) as usize;
        let term = |x: &[f32], token: usize, relative: Option<&[f32]>| -> f64 {
            let relative = relative.map(|relative| {
                (0..head).map(|i| part(x, token, h, i) * part(relative, row, h, i)).sum::<f64>()
            });
            relative.unwrap_or(0.0)
        };
        (term(q, query, keys) + term(k, key, queries)) * f64::from(attention.scale)
    })
}

/// Computes attention, and adds the value of `more(head, query, key)` to each score.
fn attend_with(
    [q, k, v]: [&[f32]; 3],
    texts: &[TextSpan],
    attention: &Attention,
    more: impl Fn(usize, usize, usize) -> f64,
) -> Vec<f64> {
    let Attention { heads, kv_heads, head, .. } = *attention;
    let seen = |distance: i64| {
        attention.before.is_none_or(|before| distance >= -(before as i64))
            && attention.after.is_none_or(|after| distance <= after as i64)
    };
    let of_key = |token: usize, h: usize| (token * kv_heads + h * kv_heads / heads) * head;
    let mut c = vec![0.0; q.len()];
    for &TextSpan { first, tokens, keys } in texts {
        let all = first as usize..(first + tokens) as usize;
        for query in all {
            for h in 0..heads {
                let row = (query * heads + h) * head;
                let keys: Vec<usize> = (first..first + keys)
                    .map(|key| key as usize)
                    .filter(|key| seen(*key as i64 - query as i64))
                    .collect();
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|key| {
                        let at = of_key(*key, h);
                        let dot: f64 =
                            (0..head).map(|i| f64::from(q[row + i]) * f64::from(k[at + i])).sum();
                        dot * f64::from(attention.scale) + more(h, query, *key)
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                for i in 0..head {
                    c[row + i] = keys
                        .iter()
                        .zip(&scores)
                        .map(|(key, s)| {
                            (s - largest).exp() / total * f64::from(v[of_key(*key, h) + i])
                        })
                        .sum();
                }
            }
        }
    }
    c
}

/// Returns the pooled row of a text. `mode` is the number of the pooling mode in `pool.wgsl`, and `span` is a
/// [`Span`](super::pool::Span).
pub fn pool(x: &[f32], width: usize, span: [u32; 4], mode: u32) -> Vec<f64> {
    let first = (span[0] + span[2]) as usize;
    let end = (span[0] + span[1]) as usize;
    let value = |token: usize, column: usize| f64::from(x[token * width + column]);
    (0..width)
        .map(|column| {
            let sum: f64 = (first..end).map(|token| value(token, column)).sum();
            let count = (end - first).max(1) as f64;
            let place = |token: usize| (token - span[0] as usize + 1) as f64;
            match mode {
                0 => value(first, column),
                1 => (first..end).map(|token| value(token, column)).fold(f64::MIN, f64::max),
                2 => sum / count,
                3 => sum / count.sqrt(),
                4 => {
                    let total: f64 = (first..end).map(place).sum();
                    let sum: f64 = (first..end).map(|t| place(t) * value(t, column)).sum();
                    sum / total.max(1.0)
                }
                _ => value(end - 1, column),
            }
        })
        .collect()
}

/// Returns the rows of x, each scaled to length one.
pub fn normalize_l2(x: &[f32], width: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks_exact(width) {
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        y.extend(row.iter().map(|v| f64::from(*v) / norm));
    }
    y
}

/// Returns the similarity of each row of a corpus to each query, `[queries, rows]`.
pub fn similarity(
    corpus: &[f32],
    queries: &[f32],
    width: usize,
    function: SimilarityFunction,
) -> Vec<f64> {
    let of = |query| corpus.chunks(width).map(move |row| function.score(query, row));
    queries.chunks(width).flat_map(of).collect()
}

/// Returns the `keep` best scores of each tile. A row has `count` scores, and is divided into tiles of `tile` scores.
/// The result consists of pairs (score, column), the best pair of each tile first. Among equal scores, the lower column
/// is better. If a tile has fewer than `keep` scores, its remaining pairs are (0, -1).
pub fn top_k(scores: &[f32], count: usize, tile: usize, keep: usize) -> Vec<f64> {
    let mut best = Vec::new();
    for row in scores.chunks(count) {
        for first in (0..count).step_by(tile) {
            let mut columns: Vec<usize> = (first..count.min(first + tile)).collect();
            columns.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
            let pair = |at: usize| match columns.get(at) {
                Some(column) => [f64::from(row[*column]), *column as f64],
                None => [0.0, -1.0],
            };
            best.extend((0..keep).flat_map(pair));
        }
    }
    best
}
