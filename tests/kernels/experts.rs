//! Tests the kernels for mixtures of experts: routing, grouping, matmuls by expert, and the weighted sum.

use vectile::convert;
use vectile::dtype::Storage;
use vectile::gpu::graph::TensorId;
use vectile::kernels::group_rows::Grouped;
use vectile::kernels::matmul::{LinearTensors, RowSize};
use vectile::kernels::route::Choices;
use vectile::kernels::{
    Activation, Activations, Builder, KernelPlan, combine, group_rows, matmul, pad_rows, reference,
    route,
};

use crate::{
    RAGGED, activations, assert_close, bench, noise, own_plan, plans, precision, run, shapes,
    storages, values, weight_storages,
};

fn stored(builder: &mut Builder, values: &[f32], storage: Storage) -> TensorId {
    let mut bytes = Vec::new();
    convert::encode(storage, values, &mut bytes);
    builder.input("w", &bytes)
}

/// Returns the expert of each row. Expert 1 has no rows, and the last expert has most of them.
fn uneven(rows: usize, experts: usize) -> Vec<usize> {
    let of = |row: usize| if noise(9, row) < 0.2 { row % experts } else { experts - 1 };
    (0..rows).map(of).map(|expert| if expert == 1 { 0 } else { expert }).collect()
}

/// Returns the pair (expert, weight) of each row.
fn pairs(of_row: &[usize]) -> Vec<f32> {
    let weight = |row| noise(8, row) * 0.5 + 0.5;
    of_row.iter().enumerate().flat_map(|(row, e)| [*e as f32, weight(row)]).collect()
}

fn choices(builder: &mut Builder, of_row: &[usize], experts: usize, top: usize) -> Choices {
    let pairs = activations(builder, "choices", &pairs(of_row), 2 * top, Storage::F32);
    Choices { pairs, top, experts }
}

fn check_route(tokens: usize, inner: usize, experts: usize, top: usize) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for storage in storages(executor) {
            let x = values(1, tokens * inner, 1.0, storage);
            let w = values(2, experts * inner, 1.0, storage);
            let plan = own_plan(executor);
            let mut builder = Builder::new(&plan, &precision(storage, storage));
            let router = stored(&mut builder, &matmul::repacked(&w, experts), storage);
            let x_t = activations(&mut builder, "x", &x, inner, storage);
            let y = route::route_of(&mut builder, x_t, router, experts, top).pairs;
            let (got, _) = run(executor, builder, y);
            let expected = reference::route(&x, &w, experts, top);
            let what = format!("{tokens}×{inner}, {top} of {experts}, {storage}");
            assert_close(&what, &got, &expected, Storage::F32, 1e-5);
        }
    }
}

#[test]
fn routes_of_ragged_sizes_in_every_storage() {
    for (tokens, (inner, experts, top)) in RAGGED.iter().zip([
        (1, 1, 1),
        (3, 2, 2),
        (64, 5, 3),
        (65, 8, 2),
        (257, 31, 4),
        (96, 32, 32),
    ]) {
        check_route(*tokens, inner, experts, top);
    }
}

#[test]
fn the_lower_of_two_equal_experts_comes_first() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        // The logits of experts 1, 3 and 4 are equal, and larger than those of the others.
        let w = [0.5, 2.0, 0.25, 2.0, 2.0];
        let mut builder = Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
        let router = stored(&mut builder, &matmul::repacked(&w, 5), Storage::F32);
        let x = activations(&mut builder, "x", &[1.0, -1.0], 1, Storage::F32);
        let y = route::route_of(&mut builder, x, router, 5, 3).pairs;
        let (got, _) = run(executor, builder, y);
        let experts: Vec<f32> = got.iter().step_by(2).copied().collect();
        assert_eq!(experts, [1.0, 3.0, 4.0, 2.0, 0.0, 1.0]);
    }
}

#[test]
fn nan_logits_choose_different_valid_experts() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let w: Vec<f32> = (0..6).map(|e| e as f32).collect();
        let mut builder = Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
        let router = stored(&mut builder, &matmul::repacked(&w, 6), Storage::F32);
        let rows = [f32::NAN, f32::INFINITY, 3e38];
        let x = activations(&mut builder, "x", &rows, 1, Storage::F32);
        let y = route::route_of(&mut builder, x, router, 6, 3).pairs;
        let (got, _) = run(executor, builder, y);
        for row in got.chunks(6) {
            let mut experts = [row[0], row[2], row[4]];
            experts.sort_by(f32::total_cmp);
            assert!(experts.iter().all(|e| (0.0..6.0).contains(e)), "{row:?}");
            assert!(experts[0] < experts[1] && experts[1] < experts[2], "{row:?}");
        }
    }
}

fn check_groups(tokens: usize, experts: usize, top: usize, tile: usize) {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let of_row = uneven(tokens * top, experts);
    let mut builder = Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
    let choices = choices(&mut builder, &of_row, experts, top);
    let (y, grouped) = group_rows::group_rows_of(&mut builder, &choices, tile);
    let (got, _) = run(executor, builder, y);
    let expected = reference::group_rows(&of_row, experts, tile, grouped.slots);
    let what = format!("{tokens} tokens, {top} of {experts}, tiles of {tile}");
    assert_eq!(expected.len(), 2 * grouped.slots, "{what}: rows beyond the slots");
    assert_close(&what, &got, &expected, Storage::F32, 0.0);
}

#[test]
fn groups_are_whole_tiles() {
    for (tokens, experts, top, tile) in [
        (1, 1, 1, 16),
        (1, 8, 2, 64),
        (3, 2, 1, 16),
        (64, 5, 3, 16),
        (257, 8, 2, 64),
        (1000, 32, 4, 16),
        (5000, 4, 2, 64),
    ] {
        check_groups(tokens, experts, top, tile);
    }
}

#[test]
fn slots_suffice_for_any_choice() {
    for (rows, experts, tile) in [(1, 1, 16), (1, 8, 16), (7, 8, 16), (8, 8, 64), (129, 3, 64)] {
        let slots = group_rows::slots(rows, experts, tile);
        // The number of tiles is largest if as many experts as possible have one row each, and the last expert has the
        // rest.
        let with_one = experts.min(rows) - 1;
        let tiles = with_one + (rows - with_one).div_ceil(tile);
        assert!(slots / tile >= tiles, "{rows} {experts} {tile}");
        assert_eq!(slots % tile, 0);
    }
}

struct Case {
    tokens: usize,
    top: usize,
    experts: usize,
    inner: usize,
    columns: usize,
    /// True if x has one row for each token; false if x has one row for each row of y.
    shared: bool,
}

/// Adds a matmul by expert over `of_row`. Returns y and its expected values.
fn matmul_by_expert(
    builder: &mut Builder,
    case: &Case,
    of_row: &[usize],
    [weights, acts]: [Storage; 2],
) -> (Activations, Vec<f64>) {
    let &Case { tokens, top, experts, inner, columns, shared } = case;
    let share = if shared { top } else { 1 };
    let x = values(1, tokens * top / share * inner, 1.0, acts);
    let w = values(2, experts * columns * inner, 1.0, weights);
    let bias = values(3, columns, 1.0, Storage::F32);
    let packed: Vec<f32> = w
        .chunks_exact(columns * inner)
        .flat_map(|matrix| matmul::repacked(matrix, columns))
        .collect();
    let choices = choices(builder, of_row, experts, top);
    let grouped: Grouped = group_rows::group_rows(builder, &choices);
    let linear = LinearTensors {
        weight: stored(builder, &packed, weights),
        bias: stored(builder, &pad_rows(&bias, columns), Storage::F32),
    };
    let x_t = activations(builder, "x", &x, inner, acts);
    let (size, gelu) = (RowSize::of(columns), Activation::Gelu);
    let y = matmul::matmul_experts_of(builder, "y", x_t, linear, size, gelu, &grouped);
    (y, reference::matmul_experts(&x, &w, &bias, gelu, of_row, share))
}

impl Case {
    /// Compares the matmul with the reference in every plan, or returns early if the executor lacks a storage type.
    fn check(&self, weights: Storage, acts: Storage) {
        let Some(mut bench) = bench() else { return };
        let Case { tokens, top, experts, inner, columns, .. } = *self;
        for executor in &mut bench.executors {
            if !weight_storages(executor).contains(&weights) || !storages(executor).contains(&acts)
            {
                continue;
            }
            for plan in plans(executor) {
                let of_row = uneven(tokens * top, experts);
                let mut builder = Builder::new(&plan, &precision(weights, acts));
                let (y, expected) = matmul_by_expert(&mut builder, self, &of_row, [weights, acts]);
                builder.graph.tokens = tokens;
                let (got, outcome) = run(executor, builder, y);
                let what = format!(
                    "{tokens} tokens, {top} of {experts}, {inner}×{columns} {weights} {acts} {plan:?}"
                );
                let tolerance = 3e-7 * (inner as f64).sqrt() * 4.0 + 2e-6;
                assert_close(&what, &got, &expected, acts, tolerance);
                assert!(outcome.overflowed.iter().all(|marked| !marked), "{what}");
            }
        }
    }
}

#[test]
fn matmuls_by_expert_of_ragged_sizes_in_every_storage() {
    for (tokens, top, experts, inner, columns, shared) in [
        (1, 1, 1, 1, 1, true),
        (3, 2, 8, 3, 3, true),
        (17, 2, 5, 63, 65, false),
        (65, 3, 4, 20, 36, true),
        (97, 2, 3, 37, 131, false),
    ] {
        let case = Case { tokens, top, experts, inner, columns, shared };
        for weights in Storage::ALL {
            case.check(weights, Storage::F32);
            if weights != Storage::F32 {
                case.check(weights, weights);
            }
        }
    }
}

#[test]
fn random_shapes() {
    shapes::each("mixtures of experts", |shapes| {
        let (tokens, experts) = (shapes.size(130), shapes.size(32));
        let top = shapes.size(experts.min(4));
        check_route(tokens, shapes.size(200), experts, top);
        check_groups(tokens, experts, top, shapes.pick(&[16, 64]));
        check_sums(tokens, top, shapes.size(300));
        let (inner, columns) = (shapes.size(100), shapes.size(130));
        let experts = experts.min(8).max(top);
        let case = Case { tokens, top, experts, inner, columns, shared: shapes.coin() };
        case.check(shapes.storage(), shapes.storage());
    });
}

#[test]
fn rows_are_bit_identical_beside_any_others_and_in_split_dispatches() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let stored =
            [Storage::F32, Storage::F16].map(|s| storages(executor).contains(&s).then_some(s));
        let plans = plans(executor).into_iter();
        let work: Vec<_> = plans
            .flat_map(|plan| stored.into_iter().flatten().map(move |s| (plan.clone(), s)))
            .collect();
        for (plan, storage) in work {
            let case =
                Case { tokens: 90, top: 2, experts: 4, inner: 37, columns: 50, shared: true };
            let mut of_row = uneven(180, 4);
            let mut result = |max_flops, of_row: &[usize]| {
                let plan = KernelPlan { max_flops, ..plan.clone() };
                let mut builder = Builder::new(&plan, &precision(storage, storage));
                let storages = [storage; 2];
                let (y, _) = matmul_by_expert(&mut builder, &case, of_row, storages);
                let count = builder.graph.dispatches.len();
                (count, run(executor, builder, y).0)
            };
            let whole = result(u64::MAX, &of_row);
            let cut = result(1, &of_row);
            assert!(cut.0 > whole.0);
            assert_eq!(cut.1, whole.1);
            // Every second row goes to another expert, which moves the other rows within their tiles.
            for expert in of_row.iter_mut().step_by(2) {
                *expert = (*expert + 1) % 4;
            }
            let moved = result(u64::MAX, &of_row);
            for row in (1..180).step_by(2) {
                let at = row * 50..(row + 1) * 50;
                assert_eq!(moved.1[at.clone()], whole.1[at], "row {row}");
            }
        }
    }
}

#[test]
fn a_row_out_of_range_sets_the_flag_of_its_token() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let (acts, large) =
            if executor.is_cpu() { (Storage::F32, 3e38) } else { (Storage::PackedF16, 40000.0) };
        for plan in plans(executor) {
            let mut builder = Builder::new(&plan, &precision(Storage::F32, acts));
            // There are three tokens with two experts each, and the second expert doubles.
            let choices = choices(&mut builder, &[0, 1, 1, 2, 0, 2], 3, 2);
            let grouped = group_rows::group_rows(&mut builder, &choices);
            let w: Vec<f32> =
                [1.0, 2.0, 1.0].iter().flat_map(|w| matmul::repacked(&[*w], 1)).collect();
            let linear = LinearTensors {
                weight: stored(&mut builder, &w, Storage::F32),
                bias: stored(&mut builder, &[0.0; 4], Storage::F32),
            };
            let x = activations(&mut builder, "x", &[large, 3.0, large], 1, acts);
            let none = Activation::None;
            let y = matmul::matmul_experts_of(
                &mut builder,
                "y",
                x,
                linear,
                RowSize::of(1),
                none,
                &grouped,
            );
            builder.graph.tokens = 3;
            builder.graph.output = Some(y.id);
            let outcome = pollster::block_on(executor.run(&builder.graph)).unwrap();
            assert_eq!(outcome.overflowed, [true, false, false]);
        }
    }
}

fn check_sums(tokens: usize, top: usize, width: usize) {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    for acts in storages(executor) {
        let x = values(1, tokens * top * width, 4.0, acts);
        let bias = values(2, width, 1.0, Storage::F32);
        let of_row = vec![0; tokens * top];
        let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
        let choices = choices(&mut builder, &of_row, 4, top);
        let x_t = activations(&mut builder, "x", &x, width, acts);
        let bias_t = stored(&mut builder, &pad_rows(&bias, width), Storage::F32);
        let y = combine::combine(&mut builder, x_t, &choices, bias_t);
        let (got, _) = run(executor, builder, y);
        let expected = reference::combine(&x, &pairs(&of_row), top, &bias);
        let what = format!("{tokens} tokens, {top} rows of {width}, {acts}");
        assert_close(&what, &got, &expected, acts, 1e-5);
    }
}

#[test]
fn sums_of_ragged_sizes_in_every_storage() {
    for (tokens, (top, width)) in
        RAGGED.iter().zip([(1, 1), (2, 3), (3, 64), (2, 65), (4, 30), (2, 257)])
    {
        check_sums(*tokens, top, width);
    }
}
