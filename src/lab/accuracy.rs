//! Computes the distance between two sets of vectors, and the rank correlation of cosines with given scores.

use crate::embedder::tolerance::cosine;
use crate::lab::report::Accuracy;

/// The minimum cosine between a vector and the same text's vector in f32. A smaller cosine means a wrong vector, not a
/// rounded one.
pub(super) const RIGHT: f64 = 0.95;

/// The number of nearest neighbours of each text that are compared.
const TOP: usize = 10;

/// Returns the accuracy of `own`, the rows in a precision, against `base`, the rows of the same texts in f32.
pub(super) fn compare(base: &[f32], own: &[f32], dim: usize) -> Accuracy {
    let rows = || base.chunks_exact(dim).zip(own.chunks_exact(dim));
    let cosines: Vec<f64> = rows().map(|(a, b)| cosine(a, b)).collect();
    let differences = base.iter().zip(own).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    Accuracy {
        texts: cosines.len(),
        min_cosine: cosines.iter().copied().fold(1.0, f64::min),
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len().max(1) as f64,
        max_abs: differences.fold(0.0, f64::max),
        top10_overlap: overlap(&neighbours(base, dim), &neighbours(own, dim)),
        spearman: None,
    }
}

/// Returns, for each row, the indices of the nearest other rows by cosine. Rows with equal cosines stay in their
/// original order.
fn neighbours(values: &[f32], dim: usize) -> Vec<Vec<usize>> {
    let rows: Vec<&[f32]> = values.chunks_exact(dim).collect();
    let nearest = |query: usize| {
        let mut others: Vec<(f64, usize)> = (0..rows.len())
            .filter(|other| *other != query)
            .map(|other| (cosine(rows[query], rows[other]), other))
            .collect();
        others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        others.into_iter().take(TOP).map(|(_, other)| other).collect()
    };
    (0..rows.len()).map(nearest).collect()
}

/// Returns the share of all neighbours in `base` that are also neighbours in `own`.
fn overlap(base: &[Vec<usize>], own: &[Vec<usize>]) -> f64 {
    let found: usize = base.iter().map(Vec::len).sum();
    let kept: usize =
        base.iter().zip(own).map(|(a, b)| a.iter().filter(|n| b.contains(n)).count()).sum();
    if found == 0 { 1.0 } else { kept as f64 / found as f64 }
}

/// Returns Spearman's rank correlation as scipy computes it: equal values share the mean of their ranks. Returns `None`
/// for fewer than two pairs, or if all values of `x` or all values of `y` are equal.
pub(super) fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let mut sums = [0.0; 3];
    for (x, y) in x.iter().zip(&y) {
        let (x, y) = (x - mean_x, y - mean_y);
        sums[0] += x * y;
        sums[1] += x * x;
        sums[2] += y * y;
    }
    let scale = (sums[1] * sums[2]).sqrt();
    (scale > 0.0).then(|| sums[0] / scale)
}

/// Returns the rank of each value, from 1. Equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start + order[start..].iter().take_while(|at| values[**at] == value).count();
        for at in &order[start..end] {
            ranks[*at] = (start + end - 1) as f64 / 2.0 + 1.0;
        }
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spearman_agrees_with_scipy() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(spearman(&x, &[1.0, 8.0, 27.0, 64.0, 125.0]), Some(1.0));
        assert_eq!(spearman(&x, &[5.0, 4.0, 3.0, 2.0, 1.0]), Some(-1.0));
        // The expected value is `scipy.stats.spearmanr([1,2,3,4,5], [5,6,7,8,7]).statistic`.
        let rho = spearman(&x, &[5.0, 6.0, 7.0, 8.0, 7.0]).unwrap();
        assert!((rho - 0.820_782_681_668_123_3).abs() < 1e-15, "{rho}");
        assert_eq!(spearman(&x, &[2.0; 5]), None);
        assert_eq!(spearman(&[], &[]), None);
    }

    #[test]
    fn equal_rows_agree_and_a_replaced_row_does_not() {
        let base: Vec<f32> =
            (0..24).flat_map(|i| [(i as f32).cos(), (i as f32).sin(), i as f32 / 50.0]).collect();
        let same = compare(&base, &base, 3);
        assert_eq!((same.texts, same.max_abs, same.top10_overlap), (24, 0.0, 1.0));
        assert_eq!(same.min_cosine, 1.0);
        let mut other = base.clone();
        other[0..3].copy_from_slice(&base[9..12]);
        let other = compare(&base, &other, 3);
        assert!(other.min_cosine < 0.0 && other.mean_cosine > 0.9 && other.top10_overlap < 1.0);
        assert_eq!(other.max_abs, f64::from(base[0]) - f64::from(base[9]));
    }

    #[test]
    fn a_zero_vector_is_near_only_to_itself() {
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 0.0]), 1.0);
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 1.0]), 0.0);
    }
}
