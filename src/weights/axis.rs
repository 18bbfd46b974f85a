//! Maps the values of a checkpoint to their positions in the padded layout of the GPU. In the GPU's layout, gates are
//! interleaved with the values that they multiply, and the two values of a rotary pair are adjacent.

use std::ops::Range;

use crate::kernels::rope::side_by_side;

/// An axis of an activation: `blocks` blocks of `block` values. Each block is padded to a multiple of four values,
/// which form a cell.
///
/// The axis of hidden states has one block. The axes of queries, keys and values have one block per head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub blocks: usize,
    pub block: usize,
}

/// The half of a gated projection that is the gate. The activation function is applied to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The gate comes first: `[gate | up]`.
    First,
    /// The gate comes second: `[up | gate]`.
    Second,
}

/// The layout of the columns of a layer that come from one checkpoint matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    pub axis: Axis,
    order: ColumnOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnOrder {
    /// The order of the values is the same as in the checkpoint.
    Unchanged,
    /// The values fill every second cell, and the cells between them belong to another matrix.
    Alternate,
    /// In each of the first `blocks` blocks, value i + `pairs` follows directly after value i, for each i below
    /// `pairs`.
    SideBySide { blocks: usize, pairs: usize },
}

impl Axis {
    /// Returns an axis of one block.
    pub fn plain(width: usize) -> Self {
        Axis { blocks: 1, block: width }
    }

    /// Returns the number of values without padding.
    pub fn len(self) -> usize {
        self.blocks * self.block
    }

    /// Returns the number of values with padding.
    pub fn padded(self) -> usize {
        self.blocks * self.block.next_multiple_of(4)
    }

    /// Returns the position of value `i` in the padded layout.
    pub(super) fn position(self, i: usize) -> usize {
        i / self.block * self.block.next_multiple_of(4) + i % self.block
    }

    /// Returns the number of values, without padding, before a position of the padded layout.
    fn before(self, position: usize) -> usize {
        let padded = self.block.next_multiple_of(4);
        position / padded * self.block + (position % padded).min(self.block)
    }

    /// Returns a layout in which the values fill every second cell, and the cells between them belong to another
    /// matrix.
    pub(super) fn alternate(self) -> Columns {
        Columns { axis: self, order: ColumnOrder::Alternate }
    }

    /// Returns a layout in which the two values of each rotary pair are adjacent. In the checkpoint, the pairs are the
    /// values i and i + `pairs` of each of the first `blocks` blocks.
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
    /// Returns the index of the column that holds value `i` of an unpadded row, counted from the matrix's first column.
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
        // The new order is a0 b0 a1 b1, followed by the values that are not rotated. The order of the third head does
        // not change.
        assert_eq!([0, 1, 2, 3, 4, 5].map(|i| rotated.position(i)), [0, 2, 1, 3, 4, 5]);
        assert_eq!([6, 7, 8, 12, 13, 14].map(|i| rotated.position(i)), [8, 10, 9, 16, 17, 18]);
    }
}
