use vectile::dtype::Storage;
use vectile::kernels::{Builder, normalize_l2, reference};

use crate::{RAGGED, activations, assert_close, bench, own_plan, precision, run, shapes, values};

/// Compares rows with the reference. The first row is zero.
fn check(rows: usize, width: usize, scale: f32) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        let mut x = values(1, rows * width, scale, Storage::F32);
        x[..width].fill(0.0);
        let mut builder = Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
        let x_t = activations(&mut builder, "x", &x, width, Storage::F32);
        let y = normalize_l2::normalize_l2(&mut builder, x_t);
        let (got, _) = run(executor, builder, y);
        let expected = reference::normalize_l2(&x, width);
        let what = format!("{rows}×{width} ·{scale}");
        assert_close(&what, &got, &expected, Storage::F32, 1e-7);
    }
}

#[test]
fn ragged_sizes_and_a_row_of_zeros() {
    for (rows, width) in RAGGED.iter().zip([65, 64, 257, 3, 30, 384]) {
        check(*rows, width, 5.0);
    }
}

#[test]
fn random_shapes() {
    shapes::each("normalize_l2", |shapes| {
        check(shapes.size(300), shapes.size(400), shapes.scale());
    });
}
