//! Splits attention into dispatches. A dispatch computes consecutive tiles of queries. If all heads of one tile are too
//! much work, a dispatch computes some heads of that tile. The result does not depend, in any bit, on where attention
//! is split.

use std::ops::Range;

use super::{Attention, TextSpan};

/// A tile of queries of one text, as the kernels read it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct QueryTile {
    /// The text's first token.
    pub first_token: u32,
    /// The number of the text's tokens.
    pub tokens: u32,
    /// The index of the tile's first query in the text.
    pub first_query: u32,
    /// The number of tokens that are keys, counted from the text's first token.
    pub keys: u32,
}

/// The part of the attention that one dispatch computes: some heads of some tiles of queries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub tiles: Range<usize>,
    pub heads: Range<u32>,
    pub flops: u64,
}

/// Returns the tiles of all texts, with up to `queries` queries in each tile.
pub(super) fn tiles(texts: &[TextSpan], queries: u32) -> Vec<QueryTile> {
    let of_text = |&TextSpan { first: first_token, tokens, keys }: &TextSpan| {
        let first_queries = (0..tokens).step_by(queries as usize);
        first_queries.map(move |first_query| QueryTile { first_token, tokens, first_query, keys })
    };
    texts.iter().flat_map(of_text).collect()
}

/// Returns the floating point operations of one head of a tile, given the operations for one query and one key.
pub(super) fn tile_flops(
    tile: &QueryTile,
    queries: u32,
    attention: &Attention,
    of_pair: u64,
) -> u64 {
    let QueryTile { tokens, first_query, keys, .. } = *tile;
    let queries = queries.min(tokens - first_query);
    let keys = attention.keys(first_query, first_query + queries - 1, keys).len();
    keys as u64 * u64::from(queries) * of_pair
}

/// Splits tiles into dispatches of at most `max_flops`. If one head of one tile exceeds this limit, it still becomes
/// one dispatch. A dispatch computes either all heads of as many tiles as possible, or as many heads as possible of one
/// tile.
pub(super) fn cut(flops_a_head: &[u64], heads: u32, max_flops: u64) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    for (at, of_head) in flops_a_head.iter().enumerate() {
        let all = of_head * u64::from(heads);
        match cuts.last_mut() {
            Some(last) if last.heads == (0..heads) && last.flops + all <= max_flops => {
                last.tiles.end = at + 1;
                last.flops += all;
            }
            _ => {
                let most = max_flops.checked_div(*of_head).unwrap_or(u64::MAX);
                let most = most.clamp(1, u64::from(heads).max(1)) as u32;
                cuts.extend((0..heads).step_by(most as usize).map(|first| {
                    let heads = first..heads.min(first + most);
                    Cut { tiles: at..at + 1, flops: of_head * heads.len() as u64, heads }
                }));
            }
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_and_then_heads_are_cut() {
        let cut = |flops: &[u64], max| -> Vec<_> {
            cut(flops, 6, max).into_iter().map(|cut| (cut.tiles, cut.heads)).collect()
        };
        assert_eq!(cut(&[1, 1, 1], 100), [(0..3, 0..6)]);
        assert_eq!(cut(&[1, 1, 1], 12), [(0..2, 0..6), (2..3, 0..6)]);
        assert_eq!(cut(&[1, 4, 1], 12), [(0..1, 0..6), (1..2, 0..3), (1..2, 3..6), (2..3, 0..6)]);
        assert_eq!(cut(&[5], 22), [(0..1, 0..4), (0..1, 4..6)]);
        // A dispatch computes at least one head of one tile.
        assert_eq!(cut(&[9], 1).len(), 6);
        assert_eq!(cut(&[], 1), []);
        // If the queries of a tile see no key, the tile needs no operations. A single dispatch computes all such tiles.
        assert_eq!(cut(&[0, 0], 1), [(0..2, 0..6)]);
    }

    #[test]
    fn long_texts_are_within_what_a_dispatch_may_take() {
        for tokens in [8192, 32768] {
            for (heads, head) in [(12, 32), (12, 64), (16, 64), (32, 128), (16, 256)] {
                for (queries, max_flops) in [(32, 2_000_000_000), (64, 20_000_000_000)] {
                    for after in [None, Some(0)] {
                        let attention = Attention { after, ..Attention::new(heads, head) };
                        let tiles =
                            tiles(&[TextSpan::whole(0, 5), TextSpan::whole(5, tokens)], queries);
                        let flops: Vec<u64> = tiles
                            .iter()
                            .map(|tile| tile_flops(tile, queries, &attention, 4 * head as u64))
                            .collect();
                        let cuts = cut(&flops, heads as u32, max_flops);
                        let what = format!("{tokens} tokens, {heads} × {head}, {max_flops}");
                        let mut done = vec![0; tiles.len() * heads];
                        for cut in &cuts {
                            assert!(cut.flops <= max_flops, "{what}: {cut:?}");
                            for tile in cut.tiles.clone() {
                                for head in cut.heads.clone() {
                                    done[tile * heads + head as usize] += 1;
                                }
                            }
                        }
                        assert!(done.iter().all(|times| *times == 1), "{what}");
                    }
                }
            }
        }
    }
}
