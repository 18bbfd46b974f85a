use vectile::dtype::Storage;
use vectile::kernels::{Builder, normalize_l2, reference};

use crate::{RAGGED, activations, assert_close, bench, own_plan, precision, run, values};

#[test]
fn ragged_sizes_and_a_row_of_zeros() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for (rows, width) in RAGGED.iter().zip([65, 64, 257, 3, 30, 384]) {
            let mut x = values(1, rows * width, 5.0, Storage::F32);
            x[..width].fill(0.0);
            let mut builder =
                Builder::new(&own_plan(executor), &precision(Storage::F32, Storage::F32));
            let x_t = activations(&mut builder, "x", &x, width, Storage::F32);
            let y = normalize_l2::normalize_l2(&mut builder, x_t);
            let (got, _) = run(executor, builder, y);
            let expected = reference::normalize_l2(&x, width);
            assert_close(&format!("{rows}×{width}"), &got, &expected, Storage::F32, 1e-7);
        }
    }
}
