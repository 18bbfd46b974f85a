//! Maps the values of a checkpoint to their places in the padded layout of the GPU. In that layout, gates are
//! interleaved with the factors they multiply, and the two values of a rotated pair are adjacent.

use std::ops::Range;

use crate::kernels::rope::side_by_side;

/// An axis of an activation: `blocks` blocks of `block` values, each padded to whole cells of four.
///
/// A hidden axis is one block. Queries, keys and values have one block per head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub blocks: usize,
    pub block: usize,
}

/// Which half of a gated projection is the gate, to which the activation is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The gate comes first: `[gate | up]`.
    First,
    /// The gate comes second: `[up | gate]`.
    Second,
}

/// The columns of a layer that come from one checkpoint matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    pub axis: Axis,
    order: ColumnOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnOrder {
    /// Values keep the order of the checkpoint.
    Unchanged,
    /// Every second cell is left free for the cells of another matrix.
    Alternate,
    /// In the first `blocks` blocks, value i of the first `pairs` values is followed by value i + `pairs`.
    SideBySide { blocks: usize, pairs: usize },
}

impl Axis {
    /// Returns an axis of one block.
    pub fn plain(width: usize) -> Self {
        Axis { blocks: 1, block: width }
    }

    /// Number of values without padding.
    pub fn len(self) -> usize {
        self.blocks * self.block
    }

    /// Number of values with padding.
    pub fn padded(self) -> usize {
        self.blocks * self.block.next_multiple_of(4)
    }

    /// Position of value `i` with padding.
    pub(super) fn position(self, i: usize) -> usize {
        i / self.block * self.block.next_multiple_of(4) + i % self.block
    }

    /// Number of values before a padded position.
    fn before(self, position: usize) -> usize {
        let padded = self.block.next_multiple_of(4);
        position / padded * self.block + (position % padded).min(self.block)
    }

    /// Columns with every second cell left free for another matrix.
    pub(super) fn alternate(self) -> Columns {
        Columns { axis: self, order: ColumnOrder::Alternate }
    }

    /// Columns in which the two values of each rotated pair are adjacent. Pairs are the values i and i + `pairs` of
    /// the first `blocks` blocks.
    pub fn side_by_side(self, blocks: usize, pairs: usize) -> Columns {
        Columns { axis: self, order: ColumnOrder::SideBySide { blocks, pairs } }
    }
}

impl From<Axis> for Columns {
    fn from(axis: Axis) -> Self {
        Columns { axis, order: ColumnOrder::Unchanged }
    }
}

impl Columns {
    /// Position of value `i`, relative to the first column.
    pub(super) fn position(self, i: usize) -> usize {
        let position = self.axis.position(i);
        match self.order {
            ColumnOrder::Unchanged => position,
            ColumnOrder::Alternate => position / 4 * 8 + position % 4,
            ColumnOrder::SideBySide { blocks, pairs } => {
                let (block, within) = (i / self.axis.block, i % self.axis.block);
                if block < blocks {
                    position - within + side_by_side(within, pairs)
                } else {
                    position
                }
            }
        }
    }

    /// Returns a range of values that contains all values at these positions, and possibly a few others.
    pub(super) fn values_at(self, positions: &Range<usize>) -> Range<usize> {
        let before = |position: usize| self.axis.before(position.min(self.axis.padded()));
        match self.order {
            ColumnOrder::Unchanged => before(positions.start)..before(positions.end),
            ColumnOrder::Alternate => {
                let half = |position: usize| position / 8 * 4 + (position % 8).min(4);
                before(half(positions.start))..before(half(positions.end))
            }
            ColumnOrder::SideBySide { .. } => {
                let block = self.axis.block.next_multiple_of(4);
                let whole = positions.start / block * block..positions.end.next_multiple_of(block);
                before(whole.start)..before(whole.end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_positions() {
        for axis in [Axis::plain(7), Axis { blocks: 3, block: 6 }, Axis { blocks: 5, block: 8 }] {
            for columns in [axis.into(), axis.alternate(), axis.side_by_side(2, axis.block / 2)] {
                let positions: Vec<usize> = (0..axis.len()).map(|i| columns.position(i)).collect();
                let end = positions.iter().max().unwrap() + 1;
                for first in 0..end {
                    for last in first..=end + 3 {
                        let found = columns.values_at(&(first..last));
                        let inside =
                            (0..axis.len()).filter(|i| (first..last).contains(&positions[*i]));
                        assert!(inside.clone().all(|i| found.contains(&i)), "{columns:?} {first}");
                        let whole = columns.order
                            != ColumnOrder::SideBySide { blocks: 2, pairs: axis.block / 2 };
                        assert!(
                            !whole || inside.count() == found.len(),
                            "{columns:?} {first} {last}"
                        );
                    }
                }
                let mut sorted = positions.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), axis.len(), "{columns:?}");
            }
        }
    }

    #[test]
    fn gates_are_interleaved_and_pairs_are_adjacent() {
        let six = Axis::plain(6);
        assert_eq!([0, 3, 4, 5].map(|i| six.alternate().position(i)), [0, 3, 8, 9]);
        let heads = Axis { blocks: 3, block: 6 };
        let rotated = heads.side_by_side(2, 2);
        // The new order is a0 b0 a1 b1, followed by the values that are not rotated. The third head keeps its order.
        assert_eq!([0, 1, 2, 3, 4, 5].map(|i| rotated.position(i)), [0, 2, 1, 3, 4, 5]);
        assert_eq!([6, 7, 8, 12, 13, 14].map(|i| rotated.position(i)), [8, 10, 9, 16, 17, 18]);
    }
}
