//! Tests that values beyond the range of a storage type set the overflow flag of their token, whatever the driver
//! stores for these values.

use vectile::dtype::Storage;
use vectile::kernels::{Activation, Builder, matmul};

use crate::{activations, bench, plans, precision, run, storages};

#[test]
fn only_tokens_out_of_range_have_their_flag_set() {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for acts in storages(executor) {
            for plan in plans(executor) {
                // Row r is (value, 0, 0, 0), and the matrix doubles the first column, so some products exceed the
                // range.
                let rows: Vec<f32> = vec![1.0, 40000.0, -40000.0, 32000.0, 3e38, 0.0, -3e38];
                let x: Vec<f32> = rows.iter().flat_map(|v| [*v, 0.0, 0.0, 0.0]).collect();
                let x: Vec<f32> = x.iter().map(|v| v.clamp(-acts.max(), acts.max())).collect();
                let mut w = vec![0.0f32; 4 * 8];
                w[0] = 2.0;
                let mut builder = Builder::new(&plan, &precision(Storage::F32, acts));
                let w_id = builder.input("w", &w);
                let bias = builder.input("bias", &[0.0f32; 4]);
                let x_t = activations(&mut builder, "x", &x, 4, acts);
                let y = matmul::matmul_of(
                    &mut builder,
                    "y",
                    x_t,
                    matmul::LinearTensors { weight: w_id, bias },
                    matmul::RowSize::of(4),
                    Activation::None,
                    None,
                );
                let (_, outcome) = run(executor, builder, y);
                let expected: Vec<bool> =
                    x.chunks(4).map(|row| row[0].abs() * 2.0 > acts.max()).collect();
                assert_eq!(outcome.overflowed, expected, "{acts} software {}", plan.software);
            }
        }
    }
}
