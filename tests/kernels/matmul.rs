use pollster::block_on;
use vectile::dtype::Storage;
use vectile::executor::Executor;
use vectile::gpu::graph::TensorId;
use vectile::kernels::matmul::{
    Epilogue, FEW_ROWS, LANE_ROWS, LinearTensors, OutputTile, RowSize, Variant,
};
use vectile::kernels::{Activation, Builder, KernelPlan, matmul, reference, rope};
use vectile::selftest::{STORAGES, differing_variants};

use crate::support::{lacks_shaders, open};
use crate::{
    activations, assert_close, bench, only_matrices, own_plan, plans, precision, run, shapes,
    storages, values, weight_storages,
};

pub struct Case {
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub activation: Activation,
    pub residual: bool,
}

fn check(case: &Case, weights: Storage, acts: Storage) {
    check_with(case, weights, acts, None);
}

/// Compares a case with the reference, in every plan or in one variant.
pub fn check_with(case: &Case, weights: Storage, acts: Storage, variant: Option<Variant>) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        // The CPU stores activations in f32 only.
        let acts = if executor.is_cpu() { Storage::F32 } else { acts };
        if !weight_storages(executor).contains(&weights) || !storages(executor).contains(&acts) {
            continue;
        }
        let plans = match variant {
            Some(Variant::Cooperative(_)) if own_plan(executor).cooperative.is_none() => {
                continue;
            }
            None => plans(executor),
            variant => {
                vec![KernelPlan { forced: variant, ..own_plan(executor) }]
            }
        };
        for plan in plans {
            let Case { rows, inner, columns, activation, residual } = *case;
            let x = values(1, rows * inner, 1.0, acts);
            let w = values(2, columns * inner, 1.0, weights);
            let bias = values(3, columns, 1.0, Storage::F32);
            let res = values(4, rows * columns, 1.0, acts);
            let mut builder = Builder::new(&plan, &precision(weights, acts));
            let mut bytes = Vec::new();
            vectile::convert::encode(weights, &matmul::repacked(&w, columns), &mut bytes);
            let w_id = builder.input("w", &bytes);
            let mut padded = bias.clone();
            padded.resize(columns.next_multiple_of(4), 0.0);
            let bias_id = builder.input("bias", &padded);
            let x_t = activations(&mut builder, "x", &x, inner, acts);
            let res_t = residual.then(|| activations(&mut builder, "res", &res, columns, acts));
            let y = matmul::matmul_of(
                &mut builder,
                "y",
                x_t,
                LinearTensors { weight: w_id, bias: bias_id },
                RowSize::of(columns),
                activation,
                res_t,
            );
            let (got, outcome) = run(executor, builder, y);
            let expected =
                reference::matmul(&x, &w, &bias, activation, residual.then_some(&res[..]));
            let what = format!(
                "{} {rows}×{inner}×{columns} {activation:?} {residual} {weights} {acts} {:?}",
                plan.describe((weights, acts)),
                plan.lanes
            );
            // The tolerance covers the error of f32 sums of `inner` products of about 1.
            let tolerance = 3e-7 * (inner as f64).sqrt() * 4.0 + 2e-6;
            assert_close(&what, &got, &expected, acts, tolerance);
            assert!(outcome.overflowed.iter().all(|marked| !marked), "{what}");
        }
    }
}

#[test]
fn ragged_sizes_in_every_storage() {
    for storage in Storage::ALL {
        for (rows, inner, columns) in [
            (1, 1, 1),
            (3, 3, 3),
            (1, 64, 63),
            (16, 16, 8),
            (17, 63, 65),
            (63, 65, 64),
            (64, 64, 257),
            (65, 257, 3),
            (257, 37, 30),
            (31, 384, 131),
        ] {
            let case = Case { rows, inner, columns, activation: Activation::None, residual: false };
            check(&case, storage, storage);
        }
    }
}

#[test]
fn random_shapes() {
    shapes::each("matmul", |shapes| {
        let (rows, inner, columns) = (shapes.size(200), shapes.size(300), shapes.size(300));
        let (activation, residual) = (shapes.activation(), shapes.coin());
        let case = Case { rows, inner, columns, activation, residual };
        check(&case, shapes.storage(), shapes.storage());
    });
}

/// Compares gates and rotated heads of random shapes with the reference.
#[test]
fn random_shapes_of_fused_matmuls() {
    let Some(mut bench) = bench() else { return };
    for (at, executor) in bench.executors.iter_mut().enumerate() {
        shapes::each(&format!("matmul with an epilogue, executor {at}"), |shapes| {
            let storage = shapes.pick(&storages(executor));
            let plan = shapes.pick(&[0, 1, 2]);
            let plan = plans(executor).into_iter().cycle().nth(plan);
            let Some(plan) = plan else { return };
            let size = [shapes.size(200), shapes.size(200), 8 * shapes.size(40)];
            gated(executor, &plan, storage, size);
            let pairs = shapes.pick(&[1, 2, 3, 4, 5, 6]);
            rotated(executor, &plan, storage, shapes.size(200), shapes.size(20), pairs);
        });
    }
}

/// Compares every variant that rows may select with the reference and bit by bit, for matrices that no tile divides.
#[test]
fn variants_that_rows_select_are_bit_identical() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let variants: Vec<Variant> = OutputTile::ALL
            .map(Variant::Tile)
            .into_iter()
            .chain(FEW_ROWS.map(Variant::Few))
            .collect();
        let [lane, tall_lane] = LANE_ROWS.map(Variant::Lane);
        for (weights, acts) in STORAGES {
            if weight_storages(executor).contains(weights) && storages(executor).contains(acts) {
                for (first, variants) in
                    [(Variant::Tile(OutputTile::PLAIN), &variants[..]), (lane, &[tall_lane])]
                {
                    let pair = (*weights, *acts);
                    let other = block_on(differing_variants(executor, pair, first, variants));
                    assert_eq!(other.unwrap(), [], "{weights} {acts}");
                }
            }
        }
    }
    drop(bench);
    if only_matrices() {
        return;
    }
    let lanes = LANE_ROWS.map(Variant::Lane);
    for variant in OutputTile::ALL
        .map(Variant::Tile)
        .into_iter()
        .chain(FEW_ROWS.map(Variant::Few))
        .chain(lanes)
    {
        for (rows, inner, columns) in [(1, 5, 3), (17, 63, 65), (129, 31, 131)] {
            let (activation, residual) = (Activation::Gelu, rows > 1);
            let case = Case { rows, inner, columns, activation, residual };
            check_with(&case, Storage::F32, Storage::F32, Some(variant));
        }
    }
}

/// Imitates a driver that fuses products and sums in one variant and not in another.
#[test]
fn a_variant_that_is_not_bit_identical_is_found() {
    let Some(bench) = bench() else { return };
    drop(bench);
    if lacks_shaders() {
        return;
    }
    let Some(mut executor) = open(&[], None) else { return };
    executor.edit_shader(("matmul_few", |wgsl| {
        wgsl.replacen("fma(vec4<f32>(value.y),", "fma(vec4<f32>(value.y * 1.0000001),", 1)
    }));
    let variants =
        [Variant::Tile(OutputTile::ALL[0]), Variant::Few(4), Variant::Tile(OutputTile::ALL[3])];
    let storages = (Storage::F32, Storage::F32);
    let other = block_on(differing_variants(
        &mut executor,
        storages,
        Variant::Tile(OutputTile::PLAIN),
        &variants,
    ))
    .unwrap();
    assert_eq!(other, [Variant::Few(4)]);
}

#[test]
fn every_pair_of_storages() {
    for weights in Storage::ALL {
        for acts in Storage::ALL {
            let case = Case {
                rows: 19,
                inner: 37,
                columns: 45,
                activation: Activation::Gelu,
                residual: true,
            };
            check(&case, weights, acts);
        }
    }
}

#[test]
fn every_activation_with_and_without_residual() {
    for activation in shapes::ACTIVATIONS {
        for residual in [false, true] {
            let case = Case { rows: 5, inner: 63, columns: 67, activation, residual };
            check(&case, Storage::F32, Storage::F32);
        }
    }
}

#[test]
fn a_split_dispatch_is_bit_identical() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for plan in plans(executor) {
            let (rows, inner, columns) = (150, 20, 36);
            let x = values(5, rows * inner, 1.0, Storage::F32);
            let w = matmul::repacked(&values(6, columns * inner, 1.0, Storage::F32), columns);
            let mut results = Vec::new();
            for max_flops in [u64::MAX, 1] {
                let plan = KernelPlan { max_flops, ..plan.clone() };
                let mut builder = Builder::new(&plan, &precision(Storage::F32, Storage::F32));
                let w_id = builder.input("w", &w);
                let bias_id = builder.input("bias", &vec![0.5f32; columns]);
                let x_t = activations(&mut builder, "x", &x, inner, Storage::F32);
                let y = matmul::matmul_of(
                    &mut builder,
                    "y",
                    x_t,
                    LinearTensors { weight: w_id, bias: bias_id },
                    RowSize::of(columns),
                    Activation::Tanh,
                    None,
                );
                results.push((builder.graph.dispatches.len(), run(executor, builder, y).0));
            }
            assert_eq!(results[0].0, 1);
            assert!(results[1].0 > 1);
            assert_eq!(results[0].1, results[1].1);
        }
    }
}

#[test]
fn a_matrix_in_blocks_of_columns_is_bit_identical() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let (rows, inner, columns) = (37, 21, 171usize);
        let cells = columns.div_ceil(4);
        for storage in storages(executor) {
            let x = values(5, rows * inner, 1.0, storage);
            let w = values(6, columns * inner, 1.0, storage);
            let bias = values(7, cells * 4, 1.0, Storage::F32);
            let res = values(8, rows * columns, 1.0, storage);
            for plan in plans(executor) {
                let mut whole = None;
                // The cuts make one block, a cut at a tile's end, a cut within a tile, many blocks, and a last block of
                // one cell.
                for cut in [cells, 32, 20, 2, 6] {
                    let mut builder = Builder::new(&plan, &precision(storage, storage));
                    let blocks: Vec<(TensorId, usize)> = (0..cells)
                        .step_by(cut)
                        .map(|first| {
                            let end = columns.min((first + cut) * 4);
                            let part = &w[first * 4 * inner..end * inner];
                            let mut bytes = Vec::new();
                            let part = matmul::repacked(part, end - first * 4);
                            vectile::convert::encode(storage, &part, &mut bytes);
                            (builder.input("w", &bytes), cut.min(cells - first))
                        })
                        .collect();
                    let bias = builder.input("bias", &bias);
                    let x_t = activations(&mut builder, "x", &x, inner, storage);
                    let res_t = activations(&mut builder, "res", &res, columns, storage);
                    let y = matmul::matmul_blocks(
                        &mut builder,
                        "y",
                        x_t,
                        (&blocks, bias),
                        RowSize::of(columns),
                        Epilogue::Plain(Activation::Gelu, Some(res_t)),
                    );
                    let got = run(executor, builder, y).0;
                    assert_eq!(got, *whole.get_or_insert_with(|| got.clone()), "{storage} {cut}");
                }
            }
        }
    }
}

/// Compares gates and rotated heads with the reference in every variant.
#[test]
fn gates_and_rotated_heads() {
    let Some(mut bench) = bench() else { return };
    for (at, executor) in bench.executors.iter_mut().enumerate() {
        for storage in storages(executor) {
            let mut plans = plans(executor);
            if !only_matrices() && storage == Storage::F32 && at == 0 {
                let own = own_plan(executor);
                let variants = OutputTile::ALL
                    .map(Variant::Tile)
                    .into_iter()
                    .chain(FEW_ROWS.map(Variant::Few));
                plans.extend(
                    variants.map(|variant| KernelPlan { forced: Some(variant), ..own.clone() }),
                );
            }
            for plan in plans {
                for (rows, inner, cells) in [(1, 5, 1), (17, 63, 17), (129, 31, 33)] {
                    gated(executor, &plan, storage, [rows, inner, 8 * cells]);
                }
                // The heads have 12 values and are partly rotated. Values that are not rotated follow the heads.
                for (rows, heads, pairs) in [(1, 1, 6), (17, 3, 4), (129, 9, 5)] {
                    rotated(executor, &plan, storage, rows, heads, pairs);
                }
            }
        }
    }
}

fn gated(executor: &mut Executor, plan: &KernelPlan, storage: Storage, size: [usize; 3]) {
    let what = format!("gated {size:?} {storage} {}", plan.describe((storage, storage)));
    then(
        executor,
        plan,
        storage,
        (&what, size),
        |_| Epilogue::Gated(Activation::Silu),
        |sums| reference::gate(sums, size[2], Activation::Silu),
    );
}

fn rotated(
    executor: &mut Executor,
    plan: &KernelPlan,
    storage: Storage,
    rows: usize,
    heads: usize,
    pairs: usize,
) {
    let size = [rows, 29, (heads + 1) * 12];
    let positions: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 50).collect();
    let frequencies: Vec<f64> = (0..pairs).map(|pair| 0.3f64.powi(pair as i32)).collect();
    let angles = rope::angles(&frequencies, 1.2, 50);
    let what = format!("{heads} heads of {size:?} {storage} {}", plan.describe((storage, storage)));
    let epilogue = |builder: &mut Builder| {
        let table = rope::Angles::new(builder, &positions, &angles, pairs);
        Epilogue::Rotated(table.rotation(heads, 12))
    };
    then(executor, plan, storage, (&what, size), epilogue, |sums| {
        reference::rotated(sums, &positions, (&angles, pairs), [size[2], heads, 12])
    });
}

/// Compares a matmul with an epilogue with the reference.
fn then(
    executor: &mut Executor,
    plan: &KernelPlan,
    storage: Storage,
    (what, [rows, inner, columns]): (&str, [usize; 3]),
    epilogue: impl Fn(&mut Builder) -> Epilogue,
    expected: impl Fn(&[f64]) -> Vec<f64>,
) {
    let x = values(1, rows * inner, 1.0, storage);
    let w = values(2, columns * inner, 0.3, storage);
    let bias = values(3, columns, 1.0, Storage::F32);
    let mut builder = Builder::new(plan, &precision(storage, storage));
    let mut bytes = Vec::new();
    vectile::convert::encode(storage, &matmul::repacked(&w, columns), &mut bytes);
    let weight = builder.input("w", &bytes);
    let bias_t = builder.input("bias", &bias);
    let x_t = activations(&mut builder, "x", &x, inner, storage);
    let epilogue = epilogue(&mut builder);
    let size = RowSize::of(columns);
    let weights = (&[(weight, size.cells)][..], bias_t);
    let y = matmul::matmul_blocks(&mut builder, "y", x_t, weights, size, epilogue);
    let (got, _) = run(executor, builder, y);
    let sums = reference::matmul(&x, &w, &bias, Activation::None, None);
    assert_close(what, &got, &expected(&sums), storage, 3e-5);
}

#[test]
fn activations_at_large_arguments_are_finite_and_right() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let x: Vec<f32> = vec![
        -1e6, -1000.0, -100.0, -89.0, -20.0, -9.5, -3.0, -1e-3, 0.0, 1e-3, 3.0, 9.5, 20.0, 89.0,
        100.0, 1e6,
    ];
    for plan in plans(executor) {
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Tanh,
            Activation::Sigmoid,
        ] {
            // The matrix is the identity, so the kernel passes x through.
            let n = x.len();
            let mut w = vec![0.0; n * n];
            for i in 0..n {
                w[i * n + i] = 1.0;
            }
            let mut builder = Builder::new(&plan, &precision(Storage::F32, Storage::F32));
            let w_id = builder.input("w", &matmul::repacked(&w, n));
            let bias_id = builder.input("bias", &vec![0.0f32; n]);
            let x_t = activations(&mut builder, "x", &x, n, Storage::F32);
            let y = matmul::matmul_of(
                &mut builder,
                "y",
                x_t,
                LinearTensors { weight: w_id, bias: bias_id },
                RowSize::of(n),
                activation,
                None,
            );
            let (got, _) = run(executor, builder, y);
            let expected: Vec<f64> =
                x.iter().map(|v| reference::activate(activation, f64::from(*v))).collect();
            assert_close(&format!("{activation:?}"), &got, &expected, Storage::F32, 2e-5);
        }
    }
}
