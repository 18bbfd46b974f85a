//! Attention with relative keys and queries, which stand for distances.

use vectile::dtype::Storage;
use vectile::kernels::attention::{self, Attention, Heads};
use vectile::kernels::{Builder, KernelPlan, pad_rows, reference};

use super::packed;
use crate::{activations, assert_close, bench, plans, precision, run, shapes, storages, values};

/// Tests relative keys and queries in every layout. Distances up to `cut` have their own rows; larger distances in one
/// direction share a row.
fn check_relative(
    lengths: &[u32],
    unseen: u32,
    attention: Attention,
    cut: i64,
    terms: [bool; 2],
    max_flops: u64,
) {
    let Some(mut bench) = bench() else { return };
    let Attention { heads, head, .. } = attention;
    let texts = packed(lengths, unseen);
    let tokens = lengths.iter().sum::<u32>() as usize;
    let longest = lengths.iter().copied().max().unwrap_or(1) as usize;
    let filled = head.next_multiple_of(4);
    let row = |distance: i64| (distance.clamp(-cut, cut - 1) + cut) as u32;
    for executor in &mut bench.executors {
        for plan in plans(executor) {
            for acts in storages(executor) {
                let part = |seed| values(seed, tokens * heads * head, 1.0, acts);
                let [q, k, v] = [part(1), part(2), part(3)];
                let rows = 2 * cut as usize;
                let [keys, queries] =
                    [4, 5].map(|seed| values(seed, rows * heads * head, 1.0, Storage::F32));
                let mut builder =
                    Builder::new(&KernelPlan { max_flops, ..plan.clone() }, &precision(acts, acts));
                let at = [&q, &k, &v].map(|x| {
                    let x = pad_rows(x, head);
                    let of = activations(&mut builder, "heads", &x, heads * filled, acts);
                    Heads { of, head: 0 }
                });
                // The row holds an unrelated head, then queries, then keys.
                let parts: Vec<&[f32]> = [(terms[1], &queries), (terms[0], &keys)]
                    .into_iter()
                    .filter_map(|(there, part)| there.then_some(&part[..]))
                    .collect();
                let width = heads * head;
                let beside: Vec<f32> = (0..rows)
                    .flat_map(|row| {
                        let other = vec![9.0; filled];
                        let parts = parts
                            .iter()
                            .flat_map(move |part| pad_rows(&part[row * width..][..width], head));
                        other.into_iter().chain(parts)
                    })
                    .collect();
                let wide = filled + parts.len() * heads * filled;
                let of = activations(&mut builder, "relative", &beside, wide, Storage::F32);
                let (table, reach) = attention::relative_rows(&mut builder, longest, row);
                let relative = attention::Relative {
                    of,
                    rows: table,
                    reach,
                    keys: terms[0].then_some(1 + if terms[1] { heads } else { 0 }),
                    queries: terms[1].then_some(1),
                };
                let y = attention::attend_relative(&mut builder, at, &texts, &attention, &relative);
                let (got, _) = run(executor, builder, y);
                let got: Vec<f32> =
                    got.chunks_exact(filled).flat_map(|h| h[..head].to_vec()).collect();
                let given = [terms[0].then_some(&keys[..]), terms[1].then_some(&queries[..])];
                let expected =
                    reference::attend_relative([&q, &k, &v], &texts, &attention, given, row);
                let what = format!(
                    "{lengths:?} less {unseen} {attention:?} cut {cut} {terms:?} {acts} software {}",
                    plan.software
                );
                assert_close(&what, &got, &expected, acts, 1e-5);
            }
        }
    }
}

#[test]
fn relative_keys_and_queries() {
    let lengths = [1, 3, 7, 8, 9, 31, 33, 63, 64, 65, 129];
    check_relative(&lengths, 0, Attention::new(2, 8), 33, [true, true], u64::MAX);
    check_relative(&lengths, 6, Attention::new(1, 8), 33, [true, true], u64::MAX);
}

#[test]
fn random_shapes() {
    shapes::each("attention with relative keys", |shapes| {
        let lengths: Vec<u32> = (0..shapes.size(4)).map(|_| shapes.size(130) as u32).collect();
        let attention = Attention::new(shapes.size(3), shapes.pick(&[6, 8, 10]));
        let terms = shapes.pick(&[[true, true], [true, false], [false, true]]);
        let unseen = shapes.pick(&[0, 1, 6]);
        check_relative(&lengths, unseen, attention, shapes.size(70) as i64, terms, u64::MAX);
    });
}

#[test]
fn relative_keys_or_queries_alone() {
    for terms in [[true, false], [false, true]] {
        check_relative(&[1, 5, 70], 0, Attention::new(3, 10), 16, terms, u64::MAX);
    }
}

#[test]
fn relative_keys_with_windows_and_split_dispatches() {
    let attention = Attention { before: Some(20), after: Some(9), ..Attention::new(2, 6) };
    check_relative(&[1, 20, 41, 97], 0, attention, 200, [true, true], 1);
}
