//! [`SearchHit`], and the best hits of a query.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row of the corpus, and its similarity to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchHit {
    /// The index of the row in the corpus.
    pub index: usize,
    /// The row's similarity to the query. A larger score means a more similar row.
    pub score: f32,
}

impl Eq for SearchHit {}

impl Ord for SearchHit {
    /// Orders hits so that a better hit is smaller, and the top of a max-heap is the worst hit. If two scores are
    /// equal, the earlier row is better.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for SearchHit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best hits of a query so far, at most `top_k` of them.
#[derive(Debug, Clone)]
pub(super) struct Best {
    top_k: usize,
    heap: BinaryHeap<SearchHit>,
}

impl Best {
    pub fn new(top_k: usize) -> Self {
        Best { top_k, heap: BinaryHeap::new() }
    }

    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// Adds a hit if it is among the best.
    pub fn offer(&mut self, SearchHit { index, score }: SearchHit) {
        // Adding 0.0 turns -0.0 into 0.0, because -0.0 would rank below 0.0.
        let hit = SearchHit { index, score: score + 0.0 };
        if self.heap.len() < self.top_k {
            self.heap.push(hit);
            return;
        }
        if let Some(mut worst) = self.heap.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    /// Adds the hits of another [`Best`], which come from other rows.
    pub fn append(&mut self, other: Best) {
        other.heap.into_iter().for_each(|hit| self.offer(hit));
    }

    /// Returns the hits, best first.
    pub fn hits(&self) -> Vec<SearchHit> {
        self.clone().into_hits()
    }

    /// Like [`Best::hits`], but without a copy.
    pub fn into_hits(self) -> Vec<SearchHit> {
        self.heap.into_sorted_vec()
    }
}
