//! The bias of T5 and MPNet that depends on the distance between tokens. Distances are grouped into buckets, and the
//! model has a table with one bias for each bucket and head.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Builder;
use crate::kernels::attention::{DistanceBias, distance_bias};

/// The settings that group distances into buckets. One half of the buckets is for keys after the query, and the other
/// half for all other keys. Within each half, half of the buckets hold one distance each; the other buckets grow
/// geometrically up to `max_distance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::models) struct Buckets {
    pub count: usize,
    pub max_distance: usize,
}

impl Buckets {
    /// Checks that there are buckets for near and for far distances of each sign.
    pub fn new(config: &JsonFile, count: usize, max_distance: usize) -> Result<Self, Error> {
        let (field, expected) = match count {
            0..4 => ("relative_attention_num_buckets", 4),
            _ if max_distance <= count / 4 => ("relative_attention_max_distance", count / 4 + 1),
            _ => return Ok(Buckets { count, max_distance }),
        };
        let value = if count < 4 { count } else { max_distance };
        Err(config.error(field, format!("is {value}; expected: at least {expected}")))
    }

    /// Returns the bucket of a distance, key − query.
    ///
    /// Each step is rounded to f32, as in torch. Without this rounding, a distance at the edge of a bucket would fall
    /// into the neighbouring bucket. The logarithm is computed in f64 and rounded, because f32 logarithms differ
    /// between platforms.
    fn of(self, distance: i64) -> usize {
        let half = self.count / 2;
        let exact = half / 2;
        let after = if distance > 0 { half } else { 0 };
        let far = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
        if far < exact {
            return after + far;
        }
        let steps = f64::from(far as f32 / exact as f32).ln() as f32;
        let all = (self.max_distance as f64 / exact as f64).ln() as f32;
        let grown = steps / all * (half - exact) as f32;
        after + (exact + grown as usize).min(half - 1)
    }

    /// Returns the biases for a batch, from a table `[buckets, heads]`.
    pub fn bias(
        self,
        builder: &mut Builder,
        table: &[f32],
        heads: usize,
        batch: &PackedBatch,
    ) -> DistanceBias {
        let bias = |head: usize, distance: i64| table[self.of(distance) * heads + head];
        distance_bias(builder, heads, batch.longest(), bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the smallest distance in each bucket, for distances from 0 to 600.
    fn starts(count: usize, max_distance: usize, sign: i64) -> Vec<i64> {
        let buckets = Buckets { count, max_distance };
        let of = |distance: i64| buckets.of(sign * distance);
        (0..=600).filter(|d| *d == 0 || of(*d) != of(d - 1)).collect()
    }

    /// Expects the values of `T5Attention._relative_position_bucket` in transformers 5.23.
    #[test]
    fn buckets_match_transformers() {
        let before = starts(32, 128, -1);
        assert_eq!(before, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]);
        assert_eq!(starts(32, 128, 1), before);
        assert_eq!(starts(12, 40, -1), [0, 1, 2, 3, 8, 17]);
        let of = Buckets { count: 32, max_distance: 128 };
        assert_eq!([-600, -1, 0, 1, 600].map(|d| of.of(d)), [15, 1, 0, 17, 31]);
    }
}
