//! [`SparseVector`], which is computed from logits or from token weights.

use std::collections::{BTreeMap, HashSet};

use crate::similarity::SimilarityFunction;

/// A sparse vector: the tokens of the vocabulary that have a weight above zero, with their weights.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseVector {
    /// The token ids, in ascending order.
    pub indices: Vec<u32>,
    /// The weight of each token in `indices`. Every weight is above zero.
    pub values: Vec<f32>,
}

impl SparseVector {
    /// Returns the similarity of two vectors. A token that is not in a vector has weight zero in that vector.
    pub fn similarity(&self, other: &SparseVector, function: SimilarityFunction) -> f64 {
        let mut pairs: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for (index, value) in self.indices.iter().zip(&self.values) {
            pairs.entry(*index).or_default().0 = f64::from(*value);
        }
        for (index, value) in other.indices.iter().zip(&other.values) {
            pairs.entry(*index).or_default().1 = f64::from(*value);
        }
        function.of_pairs(pairs.into_values())
    }

    /// Returns the dot product with another vector.
    pub fn dot(&self, other: &SparseVector) -> f64 {
        let mut sum = 0.0;
        let mut theirs = other.indices.iter().zip(&other.values).peekable();
        for (index, value) in self.indices.iter().zip(&self.values) {
            while theirs.next_if(|(other, _)| *other < index).is_some() {}
            if let Some((_, other)) = theirs.next_if(|(other, _)| *other == index) {
                sum += f64::from(*value) * f64::from(*other);
            }
        }
        sum
    }

    /// Returns a vector with the largest weights of this vector, at most `most` of them, as with sentence-transformers'
    /// `max_active_dims`. Among equal weights, the weights with smaller indices are selected.
    ///
    /// ```
    /// use vectile::SparseVector;
    ///
    /// let vector = SparseVector { indices: vec![2, 5, 7], values: vec![0.5, 2.0, 1.0] };
    /// assert_eq!(vector.top(2).indices, [5, 7]);
    /// ```
    pub fn top(&self, most: usize) -> SparseVector {
        let active = self.indices.iter().copied().zip(self.values.iter().copied()).collect();
        SparseVector::largest(active, Some(most))
    }

    /// Returns the vector of a text, with at most `most` weights. `logits` holds, for each token of the vocabulary, the
    /// largest logit over all positions of the text.
    pub(super) fn of_logits(logits: &[f32], twice: bool, most: Option<usize>) -> Self {
        let log1p = |x: f64| if twice { x.ln_1p().ln_1p() } else { x.ln_1p() };
        let active = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit > 0.0)
            .map(|(index, logit)| (index as u32, log1p(f64::from(*logit)) as f32))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        SparseVector::largest(active, most)
    }

    /// Returns the vector of a text from the weights of its tokens. Each distinct token gets the largest weight among
    /// its occurrences, and `special` tokens are left out.
    pub(super) fn of_tokens(ids: &[u32], weights: &[f32], special: &HashSet<u32>) -> Self {
        let mut largest: BTreeMap<u32, f32> = BTreeMap::new();
        for (id, weight) in ids.iter().zip(weights) {
            if *weight > 0.0 && !special.contains(id) {
                let known = largest.entry(*id).or_default();
                *known = known.max(*weight);
            }
        }
        SparseVector::largest(largest.into_iter().collect(), None)
    }

    /// Returns a vector with the largest weights of `active`, at most `most` of them. `active` must be sorted by index.
    /// Among equal weights, the weights with smaller indices are selected.
    pub(super) fn largest(mut active: Vec<(u32, f32)>, most: Option<usize>) -> Self {
        if let Some(most) = most.filter(|most| *most < active.len()) {
            active.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            active.truncate(most);
            active.sort_by_key(|(index, _)| *index);
        }
        let (indices, values) = active.into_iter().unzip();
        SparseVector { indices, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_above_zero_are_kept_in_order() {
        let logits = [0.0, -1.0, 1.0, 1e-30, 3.0, 3.0, f32::MAX];
        let all = SparseVector::of_logits(&logits, false, None);
        assert_eq!(all.indices, [2, 3, 4, 5, 6]);
        assert_eq!(all.values[..2], [2f64.ln() as f32, 1e-30]);
        let two = SparseVector::of_logits(&logits, true, Some(2));
        assert_eq!(two.indices, [4, 6]);
        assert_eq!(two.values[0], 4f64.ln().ln_1p() as f32);
    }

    #[test]
    fn tokens_have_the_largest_of_their_weights() {
        let weights = [0.5, 1.0, 3.0, 2.0, 0.0, -1.0];
        let vector = SparseVector::of_tokens(&[9, 4, 2, 4, 7, 8], &weights, &[2].into());
        assert_eq!((vector.indices, vector.values), (vec![4, 9], vec![2.0, 0.5]));
    }

    #[test]
    fn products_are_of_tokens_that_both_have() {
        let vector = |pairs: &[(u32, f32)]| {
            let (indices, values) = pairs.iter().copied().unzip();
            SparseVector { indices, values }
        };
        let a = vector(&[(1, 2.0), (4, 3.0), (9, 1.0)]);
        let b = vector(&[(0, 5.0), (4, 0.5), (9, 4.0), (12, 7.0)]);
        assert_eq!(a.dot(&b), 5.5);
        assert_eq!(a.dot(&vector(&[])), 0.0);
        assert_eq!(a.similarity(&b, SimilarityFunction::Dot), 5.5);
        assert_eq!(a.similarity(&b, SimilarityFunction::Manhattan), -(5.0 + 2.0 + 2.5 + 3.0 + 7.0));
        let squares: f64 = 25.0 + 4.0 + 6.25 + 9.0 + 49.0;
        assert_eq!(a.similarity(&b, SimilarityFunction::Euclidean), -squares.sqrt());
        let lengths = 14f64.sqrt() * (25.0f64 + 0.25 + 16.0 + 49.0).sqrt();
        let cosine = a.similarity(&b, SimilarityFunction::Cosine);
        assert!((cosine - 5.5 / lengths).abs() < 1e-12, "{cosine}");
    }
}
