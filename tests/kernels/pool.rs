use vectile::kernels::{Builder, pool, reference};

use crate::{activations, assert_close, bench, own_plan, precision, run, storages, values};

#[test]
fn every_mode_in_every_storage() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    for acts in storages(executor) {
        for width in [1, 30, 31, 64, 257] {
            let spans = [[0, 1, 0, 0], [1, 7, 3, 0], [8, 65, 0, 0], [73, 2, 1, 0]];
            let x = values(1, 75 * width, 3.0, acts);
            let modes = [0, 1, 2, 3, 4, 5];
            let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
            let x_t = activations(&mut builder, "x", &x, width, acts);
            let y = pool::pool(&mut builder, x_t, &spans, &modes);
            builder.graph.tokens = 75;
            let (got, _) = run(executor, builder, y);
            let expected: Vec<f64> = spans
                .iter()
                .flat_map(|span| modes.iter().flat_map(|m| reference::pool(&x, width, *span, *m)))
                .collect();
            assert_close(
                &format!("{width} {acts}"),
                &got,
                &expected,
                vectile::dtype::Storage::F32,
                2e-5,
            );
        }
    }
}

#[test]
fn a_text_of_no_tokens_has_a_mean_of_zeros() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    let (width, spans, modes) = (30, [[0, 2, 0, 0], [2, 0, 0, 0], [2, 1, 0, 0]], [2, 3, 4]);
    let acts = vectile::dtype::Storage::F32;
    let x = values(1, 3 * width, 3.0, acts);
    let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
    let x_t = activations(&mut builder, "x", &x, width, acts);
    let y = pool::pool(&mut builder, x_t, &spans, &modes);
    builder.graph.tokens = 3;
    let (got, _) = run(executor, builder, y);
    let expected: Vec<f64> = spans
        .iter()
        .flat_map(|span| modes.iter().flat_map(|m| reference::pool(&x, width, *span, *m)))
        .collect();
    assert!(expected[3 * width..6 * width].iter().all(|value| *value == 0.0));
    assert_close("no tokens", &got, &expected, acts, 2e-5);
}
