use vectile::dtype::Storage;
use vectile::kernels::{Builder, pad_rows, reference, rms_norm};

use crate::{activations, assert_close, bench, own_plan, precision, run, shapes, storages, values};

fn check(rows: usize, width: usize, scale: f32, residual: bool, eps: f32) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for acts in storages(executor) {
            let x = values(1, rows * width, scale, acts);
            let res = values(2, rows * width, 3.0, acts);
            let weight = values(3, width, 2.0, Storage::F32);
            let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
            let x_t = activations(&mut builder, "x", &x, width, acts);
            let res_t = residual.then(|| activations(&mut builder, "res", &res, width, acts));
            let id = builder.input("weight", &pad_rows(&weight, width));
            let y = rms_norm::rms_norm_of(&mut builder, x_t, id, eps, res_t);
            let (got, _) = run(executor, builder, y);
            let res = residual.then_some(&res[..]);
            let expected = reference::rms_norm(&x, &weight, f64::from(eps), res);
            let what = format!("{rows}×{width} ·{scale} {acts} {:?}", own_plan(executor).lanes);
            assert_close(&what, &got, &expected, acts, 3e-6);
        }
    }
}

#[test]
fn ragged_sizes_in_every_storage() {
    for (rows, width) in
        [(1, 3), (3, 1), (63, 64), (64, 65), (65, 63), (257, 30), (7, 257), (5, 384)]
    {
        for residual in [false, true] {
            check(rows, width, 1.0, residual, 1e-6);
        }
    }
}

#[test]
fn random_shapes() {
    shapes::each("rms_norm", |shapes| {
        let scale = shapes.scale();
        check(shapes.size(300), shapes.size(400), scale, shapes.coin(), 1e-6);
    });
}

#[test]
fn large_rows_small_rows_and_rows_of_zeros() {
    check(9, 384, 60000.0, false, 1e-6);
    check(9, 100, 1e-3, true, 1e-6);
    check(3, 20, 0.0, true, 1e-6);
}
