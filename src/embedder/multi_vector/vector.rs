//! [`MultiVector`], which holds the vectors of a text's tokens and computes the `MaxSim` score of a query and a
//! document.

/// The vectors of a text's tokens, in the order of the tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiVector {
    /// The number of values in a vector.
    pub dim: usize,
    /// All vectors, one after the other, in the order of the tokens. Every value is finite.
    pub values: Vec<f32>,
}

/// The score of a document without vectors. As in sentence-transformers, it is far below the scores of other documents.
const NO_VECTORS: f64 = -1e9;

impl MultiVector {
    /// Returns the vectors, in the order of the tokens.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Returns true if there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the `MaxSim` score of this query and a document. For each vector of the query, the largest dot product
    /// with a vector of the document is taken; the score is the sum of these products. The score therefore grows with
    /// the number of query tokens. A document without vectors has the score -1e9.
    pub fn max_sim(&self, document: &MultiVector) -> f64 {
        if document.is_empty() {
            return NO_VECTORS;
        }
        let largest = |query: &[f32]| {
            document.rows().map(|row| dot(query, row)).fold(f64::NEG_INFINITY, f64::max)
        };
        self.rows().map(largest).sum()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_sim_is_the_sum_of_the_largest_products() {
        let of = |values: &[f32]| MultiVector { dim: 2, values: values.to_vec() };
        let query = of(&[1.0, 0.0, 0.0, 2.0]);
        assert_eq!(query.max_sim(&of(&[0.5, 0.25, -1.0, 3.0])), 0.5 + 6.0);
        assert_eq!(query.max_sim(&of(&[-1.0, -1.0])), -3.0);
        assert_eq!(query.max_sim(&of(&[])), -1e9);
        assert_eq!(of(&[]).max_sim(&query), 0.0);
        assert_eq!((query.len(), query.rows().count(), of(&[]).is_empty()), (2, 2, true));
    }
}
