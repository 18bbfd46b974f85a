use vectile::kernels::{Builder, pool, reference};

use crate::{activations, assert_close, bench, own_plan, precision, run, shapes, storages, values};

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
fn random_shapes() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    shapes::each("pool", |shapes| {
        let (width, modes) = (shapes.size(400), [0, 1, 2, 3, 4, 5]);
        let mut first = 0;
        let spans: Vec<[u32; 4]> = (0..shapes.size(5))
            .map(|_| {
                let tokens = shapes.size(130) as u32;
                first += tokens;
                [first - tokens, tokens, (tokens - 1).min(shapes.size(4) as u32 - 1), 0]
            })
            .collect();
        for acts in storages(executor) {
            let x = values(1, first as usize * width, 3.0, acts);
            let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
            let x_t = activations(&mut builder, "x", &x, width, acts);
            let y = pool::pool(&mut builder, x_t, &spans, &modes);
            builder.graph.tokens = first as usize;
            let (got, _) = run(executor, builder, y);
            let each = |span: &[u32; 4]| {
                modes.iter().flat_map(|m| reference::pool(&x, width, *span, *m)).collect::<Vec<_>>()
            };
            let expected: Vec<f64> = spans.iter().flat_map(each).collect();
            let what = format!("{spans:?} {width} {acts}");
            assert_close(&what, &got, &expected, vectile::dtype::Storage::F32, 4e-5);
        }
    });
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
