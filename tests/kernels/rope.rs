use vectile::dtype::Storage;
use vectile::kernels::rope::{self, Angles, HeadNorm, Rope};
use vectile::kernels::{Builder, pad_rows, reference};

use crate::{
    RAGGED, activations, assert_close, bench, own_plan, precision, run, shapes, storages, values,
};

/// Returns frequencies like those of models, which fall from one radian for each token.
fn frequencies(pairs: usize) -> Vec<f64> {
    (0..pairs).map(|p| 10000f64.powf(-(p as f64) / pairs.max(1) as f64)).collect()
}

fn check(tokens: usize, rotary: Rope, pairs: usize, behind: usize) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for acts in storages(executor) {
            let heads = rotary.heads + rotary.kv_heads;
            let x = values(1, tokens * heads * rotary.head, 3.0, acts);
            let weight = values(2, 2 * rotary.head, 2.0, Storage::F32);
            let angles = rope::angles(&frequencies(pairs), 1.2, 50);
            let rows: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % 50).collect();
            // The values of the attention, which the kernel does not read, lie behind the keys.
            let padded = rotary.head.next_multiple_of(4);
            let packed: Vec<f32> = x
                .chunks_exact(heads * rotary.head)
                .flat_map(|row| {
                    let mut row = pad_rows(row, rotary.head);
                    row.resize((heads + behind) * padded, 9.0);
                    row
                })
                .collect();
            let mut builder = Builder::new(&own_plan(executor), &precision(acts, acts));
            let width = (heads + behind) * padded;
            let x_t = activations(&mut builder, "qkv", &packed, width, acts);
            let table = Angles::new(&mut builder, &rows, &angles, pairs);
            let norm = HeadNorm {
                weight: builder.input("norms", &pad_rows(&weight, rotary.head)),
                eps: 1e-6,
            };
            let y = rope::rope(&mut builder, x_t, &table, &rotary, norm);
            let (got, _) = run(executor, builder, y);
            let got: Vec<f32> =
                got.chunks_exact(padded).flat_map(|h| h[..rotary.head].to_vec()).collect();
            let expected = reference::rope(&x, &rows, (&angles, pairs), &rotary, (&weight, 1e-6));
            let what = format!("{tokens} {rotary:?} {pairs} pairs {acts}");
            assert_close(&what, &got, &expected, acts, 3e-6);
        }
    }
}

#[test]
fn ragged_tokens_in_every_storage() {
    for tokens in RAGGED {
        check(*tokens, Rope { heads: 2, kv_heads: 1, head: 8 }, 4, 1);
    }
}

#[test]
fn random_shapes() {
    shapes::each("rope", |shapes| {
        let head = shapes.pick(&[2, 6, 8, 9, 12, 16, 32, 64]);
        let rotary = Rope { heads: shapes.size(5), kv_heads: shapes.size(3), head };
        let pairs = shapes.pick(&[head / 2, head / 4]);
        check(shapes.size(260), rotary, pairs, shapes.pick(&[0, 1, 2]));
    });
}

#[test]
fn heads_of_all_sizes() {
    for (head, pairs) in [(2, 1), (6, 3), (10, 5), (64, 32), (80, 40), (256, 128)] {
        check(5, Rope { heads: 3, kv_heads: 2, head }, pairs, 2);
    }
}

#[test]
fn a_part_of_the_head_or_none_of_it() {
    for (head, pairs) in [(9, 4), (16, 3), (64, 16), (20, 0)] {
        check(7, Rope { heads: 2, kv_heads: 2, head }, pairs, 0);
    }
}

#[test]
fn a_table_of_angles_holds_cosines_and_sines_times_the_factor() {
    let table = rope::angles(&[1.0, 0.5], 2.0, 3);
    assert_eq!(table.len(), 6);
    assert_eq!(table[0], [2.0, 0.0]);
    assert_eq!(table[5], [2.0 * 1f32.cos(), 2.0 * 1f32.sin()]);
}
