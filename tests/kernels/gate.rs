use vectile::kernels::gate::{self, Gate};
use vectile::kernels::{Activation, Builder, fill_rows, reference};

use crate::{RAGGED, activations, assert_close, bench, precision, run, storages, values};

fn check(rows: usize, width: usize, order: Gate, activation: Activation) {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    for acts in storages(executor) {
        let x = values(1, rows * 2 * width, 4.0, acts);
        let mut builder = Builder::new(&executor.gpu.plan(), &precision(acts, acts));
        // Each half is filled up to whole cells by itself.
        let filled = fill_rows(&x, width);
        let x_t = activations(&mut builder, "x", &filled, 2 * width.next_multiple_of(4), acts);
        let y = gate::gate(&mut builder, x_t, width, order, activation);
        let (got, _) = run(executor, builder, y);
        let expected = reference::gate(&x, width, order == Gate::First, activation);
        let what = format!("{rows}×{width} {order:?} {activation:?} {acts}");
        assert_close(&what, &got, &expected, acts, 1e-5);
    }
}

#[test]
fn ragged_sizes_in_every_storage() {
    for (rows, width) in RAGGED.iter().zip([65, 64, 257, 3, 1, 30]) {
        for order in [Gate::First, Gate::Second] {
            check(*rows, width, order, Activation::Silu);
        }
    }
}

#[test]
fn every_activation() {
    for activation in [
        Activation::None,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        check(5, 30, Gate::First, activation);
    }
}
