use vectile::dtype::Storage;
use vectile::kernels::{Builder, layer_norm, pad_rows, reference};

use crate::{activations, assert_close, bench, own_plan, precision, run, shapes, storages, values};

/// Returns |mean| divided by the standard deviation, or 0 for equal values.
fn mean_by_deviation(row: &[f64]) -> f64 {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    if variance > 0.0 { mean.abs() / variance.sqrt() } else { 0.0 }
}

fn check(rows: usize, width: usize, shift: f32, scale: f32, residual: bool, eps: f32) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for acts in storages(executor) {
            let shifted = |seed| {
                let mut v = values(seed, rows * width, scale, Storage::F32);
                v.iter_mut().for_each(|v| *v += shift);
                let mut bytes = Vec::new();
                vectile::convert::encode(acts, &v, &mut bytes);
                vectile::convert::decode(acts, &bytes)
            };
            let (x, res) = (shifted(1), shifted(2));
            let weight = values(3, width, 2.0, Storage::F32);
            let bias = values(4, width, 1.0, Storage::F32);
            let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
            let x_t = activations(&mut builder, "x", &x, width, acts);
            let res_t = residual.then(|| activations(&mut builder, "res", &res, width, acts));
            let ids = [&weight, &bias].map(|v| builder.input("norm", &pad_rows(v, width)));
            let y = layer_norm::layer_norm_of(&mut builder, x_t, res_t, ids, eps);
            let (got, _) = run(executor, builder, y);
            let expected = reference::layer_norm(
                &x,
                residual.then_some(&res[..]),
                &weight,
                &bias,
                f64::from(eps),
            );
            // If |mean| is large compared with the standard deviation, the result has fewer correct digits.
            let sums: Vec<f64> = x
                .iter()
                .zip(&res)
                .map(|(x, res)| f64::from(*x) + if residual { f64::from(*res) } else { 0.0 })
                .collect();
            let ratio = sums.chunks_exact(width).map(mean_by_deviation).fold(0.0, f64::max);
            let tolerance = 2e-6 * (1.0 + ratio.max(f64::from(shift.abs() / scale)));
            let what = format!("{rows}×{width} +{shift} {acts} {:?}", own_plan(executor).lanes);
            assert_close(&what, &got, &expected, acts, tolerance);
        }
    }
}

#[test]
fn ragged_sizes_in_every_storage() {
    for (rows, width) in
        [(1, 3), (3, 1), (63, 64), (64, 65), (65, 63), (257, 30), (7, 257), (5, 384)]
    {
        for residual in [false, true] {
            check(rows, width, 0.0, 1.0, residual, 1e-12);
        }
    }
}

#[test]
fn random_shapes() {
    shapes::each("layer_norm", |shapes| {
        let scale = shapes.scale();
        check(shapes.size(300), shapes.size(400), 0.0, scale, shapes.coin(), 1e-12);
    });
}

#[test]
fn a_large_mean_and_a_large_scale() {
    check(9, 384, 1000.0, 1.0, false, 1e-5);
    check(9, 100, 0.0, 10000.0, true, 1e-12);
}

#[test]
fn a_constant_row_is_the_bias() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let mut builder = Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
    let x = activations(&mut builder, "x", &[0.5; 40], 20, Storage::F32);
    let weight = builder.input("weight", &[1.0f32; 20]);
    let bias: Vec<f32> = (0..20).map(|i| i as f32).collect();
    let bias_id = builder.input("bias", &bias);
    let y = layer_norm::layer_norm_of(&mut builder, x, None, [weight, bias_id], 1e-12);
    let (got, _) = run(executor, builder, y);
    assert_eq!(got, [bias.clone(), bias].concat());
}
