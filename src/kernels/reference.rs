//! Each kernel in plain Rust, naive and in f64: what the WGSL must compute.
//!
//! Matrices are row-major slices without filling.

use crate::kernels::Activation;

/// f(x)
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

/// The error function to 1e-15: its Taylor series near zero, the continued fraction of erfc beyond
/// (Abramowitz and Stegun 7.1.5 and 7.1.14).
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

/// `[rows, width]` of table rows summed.
pub fn lookup(rows: &[[u32; 4]], tables: [&[f32]; 3], width: usize) -> Vec<f64> {
    let mut x = Vec::new();
    for row in rows {
        for column in 0..width {
            let sum = (0..3).map(|t| f64::from(tables[t][row[t] as usize * width + column])).sum();
            x.push(sum);
        }
    }
    x
}

/// Layer normalisation of x + residual by rows.
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

/// activation(x · wᵀ + bias) + residual with `w` as checkpoints have it, `[columns, inner]`.
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

/// softmax(q · kᵀ / √head) · v; `qkv` is `[tokens, 3, heads, head]`, the result `[tokens, heads, head]`.
pub fn attention(qkv: &[f32], texts: &[[u32; 2]], heads: usize, head: usize) -> Vec<f64> {
    let width = heads * head;
    let at = |token: usize, part: usize, h: usize, i: usize| {
        f64::from(qkv[token * 3 * width + part * width + h * head + i])
    };
    let mut c = vec![0.0; qkv.len() / 3];
    for &[first, tokens] in texts {
        let all = first as usize..(first + tokens) as usize;
        for q in all.clone() {
            for h in 0..heads {
                let scores: Vec<f64> = all
                    .clone()
                    .map(|k| {
                        let dot: f64 = (0..head).map(|i| at(q, 0, h, i) * at(k, 1, h, i)).sum();
                        dot / (head as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                for i in 0..head {
                    let sum: f64 = all
                        .clone()
                        .zip(&scores)
                        .map(|(k, s)| (s - largest).exp() / total * at(k, 2, h, i))
                        .sum();
                    c[q * width + h * head + i] = sum;
                }
            }
        }
    }
    c
}

/// A text's row; `mode` is the shader's number, `span` as the kernel takes it.
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

/// Rows scaled to length one.
pub fn normalize_l2(x: &[f32], width: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks_exact(width) {
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        y.extend(row.iter().map(|v| f64::from(*v) / norm));
    }
    y
}
