//! Where values of checkpoints lie once cells are filled, gates stand beside what they multiply, and the pairs
//! that positions turn lie side by side.

use std::ops::Range;

use crate::kernels::rope::side_by_side;

/// An axis of an activation: `blocks` runs of `block` values, each filled up to whole cells of four.
///
/// A hidden axis is one block; queries, keys and values are a block a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub blocks: usize,
    pub block: usize,
}

/// Which of two matrices side by side is the gate, the one that an activation is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `[gate | up]`
    First,
    /// `[up | gate]`
    Second,
}

/// The columns of a layer that come from one matrix of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    pub axis: Axis,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// That of the checkpoint.
    Kept,
    /// Every second cell.
    Alternate,
    /// In the first so many blocks, pairs of values half of them apart come to lie side by side.
    SideBySide { blocks: usize, pairs: usize },
}

impl Axis {
    /// One block.
    pub fn plain(width: usize) -> Self {
        Axis { blocks: 1, block: width }
    }

    /// Values without filling.
    pub fn len(self) -> usize {
        self.blocks * self.block
    }

    /// Values with filling.
    pub fn filled(self) -> usize {
        self.blocks * self.block.next_multiple_of(4)
    }

    /// Where value `i` lies with filling.
    pub(super) fn place(self, i: usize) -> usize {
        i / self.block * self.block.next_multiple_of(4) + i % self.block
    }

    /// Values that lie before a place.
    fn before(self, place: usize) -> usize {
        let filled = self.block.next_multiple_of(4);
        place / filled * self.block + (place % filled).min(self.block)
    }

    /// With every second cell left for another matrix.
    pub(super) fn alternate(self) -> Columns {
        Columns { axis: self, order: Order::Alternate }
    }

    /// With the first `2 · pairs` values of the first `blocks` blocks, pairs half of them apart, side by side.
    pub fn side_by_side(self, blocks: usize, pairs: usize) -> Columns {
        Columns { axis: self, order: Order::SideBySide { blocks, pairs } }
    }
}

impl From<Axis> for Columns {
    fn from(axis: Axis) -> Self {
        Columns { axis, order: Order::Kept }
    }
}

impl Columns {
    /// Where value `i` lies, counted from the first.
    pub(super) fn place(self, i: usize) -> usize {
        let place = self.axis.place(i);
        match self.order {
            Order::Kept => place,
            Order::Alternate => place / 4 * 8 + place % 4,
            Order::SideBySide { blocks, pairs } => {
                let (block, within) = (i / self.axis.block, i % self.axis.block);
                if block < blocks { place - within + side_by_side(within, pairs) } else { place }
            }
        }
    }

    /// Values among which all are that lie in some places; most of them do.
    pub(super) fn among(self, places: &Range<usize>) -> Range<usize> {
        let before = |place: usize| self.axis.before(place.min(self.axis.filled()));
        match self.order {
            Order::Kept => before(places.start)..before(places.end),
            Order::Alternate => {
                let half = |place: usize| place / 8 * 4 + (place % 8).min(4);
                before(half(places.start))..before(half(places.end))
            }
            Order::SideBySide { .. } => {
                let block = self.axis.block.next_multiple_of(4);
                let whole = places.start / block * block..places.end.next_multiple_of(block);
                before(whole.start)..before(whole.end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_places() {
        for axis in [Axis::plain(7), Axis { blocks: 3, block: 6 }, Axis { blocks: 5, block: 8 }] {
            for columns in [axis.into(), axis.alternate(), axis.side_by_side(2, axis.block / 2)] {
                let places: Vec<usize> = (0..axis.len()).map(|i| columns.place(i)).collect();
                let end = places.iter().max().unwrap() + 1;
                for first in 0..end {
                    for last in first..=end + 3 {
                        let among = columns.among(&(first..last));
                        let inside =
                            (0..axis.len()).filter(|i| (first..last).contains(&places[*i]));
                        assert!(inside.clone().all(|i| among.contains(&i)), "{columns:?} {first}");
                        let whole =
                            columns.order != Order::SideBySide { blocks: 2, pairs: axis.block / 2 };
                        assert!(
                            !whole || inside.count() == among.len(),
                            "{columns:?} {first} {last}"
                        );
                    }
                }
                let mut sorted = places.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), axis.len(), "{columns:?}");
            }
        }
    }

    #[test]
    fn gates_alternate_and_pairs_lie_side_by_side() {
        let six = Axis::plain(6);
        assert_eq!([0, 3, 4, 5].map(|i| six.alternate().place(i)), [0, 3, 8, 9]);
        let heads = Axis { blocks: 3, block: 6 };
        let turned = heads.side_by_side(2, 2);
        // a0 a1 b0 b1 and what is beyond the pairs; the third head is kept.
        assert_eq!([0, 1, 2, 3, 4, 5].map(|i| turned.place(i)), [0, 2, 1, 3, 4, 5]);
        assert_eq!([6, 7, 8, 12, 13, 14].map(|i| turned.place(i)), [8, 10, 9, 16, 17, 18]);
    }
}
