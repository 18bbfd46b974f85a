//! Biases by distance as T5 and MPNet have them: distances fall into buckets, and a table of the model
//! holds a bias a bucket and head.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::error::Error;
use crate::kernels::Builder;
use crate::kernels::attention::{DistanceBias, distance_bias};

/// How distances fall into buckets: half of them for keys after the query, and of each half the
/// first half for a distance each, the others growing by a factor up to `max_distance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::models) struct Buckets {
    pub count: usize,
    pub max_distance: usize,
}

impl Buckets {
    /// Checks that there is a bucket for each sign and sort of distance.
    pub fn new(config: &JsonFile, count: usize, max_distance: usize) -> Result<Self, Error> {
        let (field, expected) = match count {
            0..4 => ("relative_attention_num_buckets", 4),
            _ if max_distance <= count / 4 => ("relative_attention_max_distance", count / 4 + 1),
            _ => return Ok(Buckets { count, max_distance }),
        };
        let value = if count < 4 { count } else { max_distance };
        Err(config.error(field, format!("is {value}; at least {expected} is expected")))
    }

    /// The bucket of a distance, key − query.
    ///
    /// Each step is rounded to f32, as torch computes it: a distance at the edge of a bucket would
    /// fall on the other side of it in exact arithmetic. The logarithm is that of f64, rounded, since
    /// those for f32 differ between platforms.
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

    /// The biases of a batch, from a table `[buckets, heads]`.
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

    /// Where, among distances of 0 to 600, each bucket starts.
    fn starts(count: usize, max_distance: usize, sign: i64) -> Vec<i64> {
        let buckets = Buckets { count, max_distance };
        let of = |distance: i64| buckets.of(sign * distance);
        (0..=600).filter(|d| *d == 0 || of(*d) != of(d - 1)).collect()
    }

    /// What `T5Attention._relative_position_bucket` of transformers 5.23 gives.
    #[test]
    fn buckets_are_torchs() {
        let before = starts(32, 128, -1);
        assert_eq!(before, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]);
        assert_eq!(starts(32, 128, 1), before);
        assert_eq!(starts(12, 40, -1), [0, 1, 2, 3, 8, 17]);
        let of = Buckets { count: 32, max_distance: 128 };
        assert_eq!([-600, -1, 0, 1, 600].map(|d| of.of(d)), [15, 1, 0, 17, 31]);
    }
}
