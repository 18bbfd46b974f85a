//! Known-answer tests of the kernels for mixtures of experts.

use super::{Answer, activations, stored, stored_rows, values};
use crate::dtype::Storage;
use crate::kernels::group_rows::Grouped;
use crate::kernels::route::Choices;
use crate::kernels::{
    Activation, Builder, combine as combining, group_rows, matmul, pad_rows, reference, route,
};

pub(super) fn route_one(builder: &mut Builder) -> Answer {
    routed(builder, 5, 1)
}

pub(super) fn route_three(builder: &mut Builder) -> Answer {
    routed(builder, 9, 3)
}

fn routed(builder: &mut Builder, experts: usize, top: usize) -> Answer {
    let (tokens, inner) = (11, 70);
    let x = values(25, tokens * inner, 1.0, builder.activations);
    let w = values(26, experts * inner, 0.5, builder.weights);
    let storage = builder.weights;
    let router = stored(builder, &matmul::repacked(&w, experts), storage);
    let x_t = activations(builder, &x, inner);
    let choices = route::route_of(builder, x_t, router, experts, top);
    Answer { y: choices.pairs, expected: reference::route(&x, &w, experts, top) }
}

pub(super) fn group_even(builder: &mut Builder) -> Answer {
    grouped(builder, 4, |row| row * 7 % 4)
}

/// Tests rows sorted by expert, where one expert has no rows and another has most of them.
pub(super) fn group_uneven(builder: &mut Builder) -> Answer {
    grouped(builder, 6, |row| if row % 9 == 0 { row % 4 } else { 4 })
}

fn grouped(builder: &mut Builder, experts: usize, of: fn(usize) -> usize) -> Answer {
    let (tokens, top, tile) = (83, 3, 16);
    let of_row: Vec<usize> = (0..tokens * top).map(of).collect();
    let choices = choices(builder, &pairs(&of_row), experts, top);
    let (y, grouped) = group_rows::group_rows_of(builder, &choices, tile);
    Answer { y, expected: reference::group_rows(&of_row, experts, tile, grouped.slots) }
}

/// Returns a pair (expert, weight) for each row, with the experts that `of_row` lists.
fn pairs(of_row: &[usize]) -> Vec<f32> {
    let weights = values(27, of_row.len(), 1.0, Storage::F32);
    of_row.iter().zip(weights).flat_map(|(expert, weight)| [*expert as f32, weight]).collect()
}

fn choices(builder: &mut Builder, pairs: &[f32], experts: usize, top: usize) -> Choices {
    let pairs = stored_rows(builder, pairs, 2 * top, Storage::F32);
    Choices { pairs, top, experts }
}

pub(super) fn combine(builder: &mut Builder) -> Answer {
    let (tokens, top, width) = (9, 3, 70);
    let x = values(28, tokens * top * width, 3.0, builder.activations);
    let bias = values(29, width, 1.0, Storage::F32);
    let pairs = pairs(&vec![0; tokens * top]);
    let choices = choices(builder, &pairs, 4, top);
    let x_t = activations(builder, &x, width);
    let bias_t = stored(builder, &pad_rows(&bias, width), Storage::F32);
    let y = combining::combine(builder, x_t, &choices, bias_t);
    Answer { y, expected: reference::combine(&x, &pairs, top, &bias) }
}

/// Tests a matmul with three experts, in which two rows of y are computed from each row of x.
pub(super) fn matmul_shared(builder: &mut Builder) -> Answer {
    let (tokens, top, experts, inner, columns) = (19, 2, 3, 37, 45);
    let x = values(30, tokens * inner, 1.0, builder.activations);
    let w = values(31, experts * columns * inner, 0.5, builder.weights);
    let bias = values(32, columns, 1.0, Storage::F32);
    let of_row: Vec<usize> = (0..tokens * top).map(|row| row * 5 % 7 % experts).collect();
    let tile = builder.plan.expert_group_rows();
    let slots = group_rows::slots(of_row.len(), experts, tile);
    let order: Vec<f32> = reference::group_rows(&of_row, experts, tile, slots)
        .into_iter()
        .map(|value| value as f32)
        .collect();
    let order = stored(builder, &order, Storage::F32);
    let grouped = Grouped { order, slots, rows: of_row.len(), top };
    let packed: Vec<f32> = w
        .chunks_exact(columns * inner)
        .flat_map(|matrix| matmul::repacked(matrix, columns))
        .collect();
    let storage = builder.weights;
    let weights = matmul::LinearTensors {
        weight: stored(builder, &packed, storage),
        bias: stored(builder, &pad_rows(&bias, columns), Storage::F32),
    };
    let x_t = activations(builder, &x, inner);
    let (size, gelu) = (matmul::RowSize::of(columns), Activation::Gelu);
    let y = matmul::matmul_experts_of(builder, "y", x_t, weights, size, gelu, &grouped);
    Answer { y, expected: reference::matmul_experts(&x, &w, &bias, gelu, &of_row, top) }
}
