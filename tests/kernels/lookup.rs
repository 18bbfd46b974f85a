use vectile::convert;
use vectile::kernels::{Builder, lookup, pad_rows, reference};

use crate::{
    RAGGED, assert_close, bench, noise, own_plan, precision, run, shapes, storages, values,
    weight_storages,
};

/// Compares a lookup in three tables with the reference.
fn check(tokens: usize, width: usize) {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    for weights in weight_storages(executor) {
        for acts in storages(executor) {
            let tables = [
                values(1, 50 * width, 1.0, weights),
                values(2, 20 * width, 1.0, weights),
                values(3, 2 * width, 1.0, weights),
            ];
            let pick = |seed, i, n: f32| ((noise(seed, i) + 1.0) / 2.0 * n) as u32;
            let rows: Vec<[u32; 4]> = (0..tokens)
                .map(|i| [pick(4, i, 50.0), pick(5, i, 20.0), pick(6, i, 2.0), 0])
                .collect();
            let mut builder = Builder::new(&own_plan(executor), &precision(weights, acts));
            let ids = [0, 1, 2].map(|t: usize| {
                let mut bytes = Vec::new();
                convert::encode(weights, &pad_rows(&tables[t], width), &mut bytes);
                builder.input("table", &bytes)
            });
            let x = lookup::lookup(&mut builder, &rows, ids, width);
            let (got, _) = run(executor, builder, x);
            let expected = reference::lookup(&rows, [&tables[0], &tables[1], &tables[2]], width);
            let what = format!("{tokens}×{width} {weights} {acts}");
            assert_close(&what, &got, &expected, acts, 3e-7);
        }
    }
}

#[test]
fn ragged_sizes_in_every_storage() {
    for (tokens, width) in RAGGED.iter().zip([65, 64, 257, 3, 1, 30]) {
        check(*tokens, width);
    }
}

#[test]
fn random_shapes() {
    shapes::each("lookup", |shapes| check(shapes.size(300), shapes.size(400)));
}

#[test]
fn fewer_tables_and_a_scale() {
    let Some(mut bench) = bench() else { return };
    let executor = &mut bench.executors[0];
    for storage in storages(executor) {
        for count in 1..=3 {
            let width = 30;
            let tables = [1, 2, 3].map(|seed| values(seed, 9 * width, 1.0, storage));
            let rows: Vec<[u32; 4]> = (0..65).map(|t| [t % 9, t * 5 % 9, t * 2 % 9, 0]).collect();
            let mut builder = Builder::new(&own_plan(executor), &precision(storage, storage));
            let ids = tables.each_ref().map(|table| {
                let mut bytes = Vec::new();
                convert::encode(storage, &pad_rows(table, width), &mut bytes);
                builder.input("table", &bytes)
            });
            let x = lookup::lookup_of(&mut builder, &rows, &ids[..count], width, 5.5);
            let (got, _) = run(executor, builder, x);
            let all = tables.each_ref().map(|table| &table[..]);
            let expected = reference::lookup_of(&rows, &all[..count], width, 5.5);
            assert_close(&format!("{count} {storage}"), &got, &expected, storage, 2e-6);
        }
    }
}
