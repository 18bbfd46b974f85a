use vectile::kernels::{Builder, KernelPlan, attention, reference};

use crate::{activations, assert_close, bench, plans, precision, run, storages, values};

/// First token and length of each text, packed without gaps.
fn packed(lengths: &[u32]) -> Vec<[u32; 2]> {
    let mut first = 0;
    lengths
        .iter()
        .map(|length| {
            first += length;
            [first - length, *length]
        })
        .collect()
}

/// Queries, keys and values with each head filled up to whole cells.
fn fill_heads(qkv: &[f32], head: usize) -> Vec<f32> {
    vectile::kernels::fill_rows(qkv, head)
}

fn check(lengths: &[u32], heads: usize, head: usize, scale: f32, max_flops: u64) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for plan in plans(executor) {
            for acts in storages(executor) {
                let texts = packed(lengths);
                let tokens: u32 = lengths.iter().sum();
                let width = heads * head;
                let qkv = values(1, tokens as usize * 3 * width, scale, acts);
                let plan = KernelPlan { max_flops, ..plan };
                let mut builder = Builder::new(plan, &precision(acts, acts));
                let filled = fill_heads(&qkv, head);
                let head_filled = head.next_multiple_of(4);
                let x = activations(&mut builder, "qkv", &filled, 3 * heads * head_filled, acts);
                let y = attention::attention(&mut builder, x, &texts, heads, head);
                let (got, _) = run(executor, builder, y);
                let got: Vec<f32> =
                    got.chunks_exact(head_filled).flat_map(|h| h[..head].to_vec()).collect();
                let expected = reference::attention(&qkv, &texts, heads, head);
                let what = format!("{lengths:?} {heads}×{head} {acts} software {}", plan.software);
                // The error of a score, |q||k| in f32, is the relative error of its weight.
                let tolerance = 5e-6 * f64::from(scale.max(1.0)).powi(2);
                assert_close(&what, &got, &expected, acts, tolerance);
            }
        }
    }
}

#[test]
fn ragged_texts() {
    check(&[1, 3, 63, 64, 65, 7, 8, 9, 31, 32, 33], 2, 32, 1.0, u64::MAX);
}

#[test]
fn one_long_text_and_one_token() {
    check(&[257, 1], 1, 16, 2.0, u64::MAX);
}

#[test]
fn head_sizes() {
    for head in [1, 6, 64, 80, 256] {
        check(&[5, 37], 2, head, 1.0, u64::MAX);
    }
}

#[test]
fn sharp_scores() {
    check(&[40, 65], 2, 32, 20.0, u64::MAX);
}

#[test]
fn work_cut_into_pieces() {
    check(&[70, 3, 130, 5], 2, 8, 1.0, 1);
}
