//! Known-answer tests of the matmul, with each epilogue.

use super::{Answer, activations, rotated_heads, stored, values};
use crate::dtype::Storage;
use crate::kernels::{Activation, Builder, matmul, pad_rows, reference, rope};

pub fn plain(builder: &mut Builder) -> Answer {
    plain_answer(builder, 19, Activation::None, false)
}

pub fn whole(builder: &mut Builder) -> Answer {
    plain_answer(builder, 19, Activation::Gelu, true)
}

pub fn few(builder: &mut Builder) -> Answer {
    plain_answer(builder, 3, Activation::None, false)
}

pub fn few_whole(builder: &mut Builder) -> Answer {
    plain_answer(builder, 13, Activation::Gelu, true)
}

pub fn gated(builder: &mut Builder) -> Answer {
    gated_answer(builder, 19)
}

pub fn few_gated(builder: &mut Builder) -> Answer {
    gated_answer(builder, 3)
}

pub fn rotated(builder: &mut Builder) -> Answer {
    rotated_answer(builder, 3)
}

pub fn few_rotated(builder: &mut Builder) -> Answer {
    rotated_answer(builder, 1)
}

fn plain_answer(builder: &mut Builder, rows: usize, activation: Activation, whole: bool) -> Answer {
    let columns = 45;
    let residual = values(11, rows * columns, 1.0, builder.activations);
    let residual_t = activations(builder, &residual, columns);
    let epilogue = matmul::Epilogue::Plain(activation, whole.then_some(residual_t));
    let expected = |x: &[f32], w: &[f32], bias: &[f32]| {
        reference::matmul(x, w, bias, activation, whole.then_some(&residual[..]))
    };
    answer_of(builder, [rows, columns], epilogue, expected)
}

/// Tests rows of x with 64 values, which every variant divides into slices without a remainder.
pub fn whole_slices(builder: &mut Builder) -> Answer {
    let epilogue = matmul::Epilogue::Plain(Activation::None, None);
    answer_along(builder, [19, 64, 45], epilogue, |x, w, bias| {
        reference::matmul(x, w, bias, Activation::None, None)
    })
}

/// Tests a gated epilogue: in each row, four values of the gate alternate with four values of the factor that it gates.
fn gated_answer(builder: &mut Builder, rows: usize) -> Answer {
    let epilogue = matmul::Epilogue::Gated(Activation::Silu);
    answer_of(builder, [rows, 48], epilogue, |x, w, bias| {
        let sums = reference::matmul(x, w, bias, Activation::None, None);
        reference::gate(&sums, 48, Activation::Silu)
    })
}

/// Tests rotated heads of queries and keys, followed by a head of values that is not rotated.
fn rotated_answer(builder: &mut Builder, times: usize) -> Answer {
    let (heads, rows, angles) = rotated_heads();
    let rows = rows.repeat(times);
    let table = rope::Angles::new(builder, &rows, &angles, 7);
    let epilogue = matmul::Epilogue::Rotated(table.rotation(3, heads.head));
    answer_of(builder, [rows.len(), 80], epilogue, |x, w, bias| {
        let sums = reference::matmul(x, w, bias, Activation::None, None);
        reference::rotated(&sums, &rows, (&angles, 7), [80, 3, heads.head])
    })
}

/// Adds a matmul to the graph whose result is `[rows, columns]`, and computes the expected result with the plain-Rust
/// reference.
fn answer_of(
    builder: &mut Builder,
    [rows, columns]: [usize; 2],
    epilogue: matmul::Epilogue,
    expected: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f64>,
) -> Answer {
    answer_along(builder, [rows, 37, columns], epilogue, expected)
}

/// Does the same as [`answer_of`], for rows of x with `inner` values.
fn answer_along(
    builder: &mut Builder,
    [rows, inner, columns]: [usize; 3],
    epilogue: matmul::Epilogue,
    expected: impl FnOnce(&[f32], &[f32], &[f32]) -> Vec<f64>,
) -> Answer {
    let x = values(8, rows * inner, 1.0, builder.activations);
    let w = values(9, columns * inner, 0.5, builder.weights);
    let bias = values(10, columns, 1.0, Storage::F32);
    let storage = builder.weights;
    let weight = stored(builder, &matmul::repacked(&w, columns), storage);
    let bias_t = stored(builder, &pad_rows(&bias, columns), Storage::F32);
    let x_t = activations(builder, &x, inner);
    let size = matmul::RowSize::of(columns);
    let weights = (&[(weight, size.cells)][..], bias_t);
    let y = matmul::matmul_blocks(builder, "y", x_t, weights, size, epilogue);
    Answer { y, expected: expected(&x, &w, &bias) }
}
