//! Disentangled attention (He et al. 2021, <https://arxiv.org/abs/2006.03654>).
//!
//! Each distance between tokens has a key and a query of its own. A score is q · k, plus up to two products: q · (key
//! of the distance) and k · (query of the distance). Each layer projects the keys and queries of all distances from one
//! table.

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::graph::TensorId;
use crate::kernels::attention::{Relative, relative_rows};
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::lookup::lookup_of;
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::{Activation, Activations, Builder};
use crate::models::blocks::tables::table_rows;
use crate::weights::{Axis, Loader, Table};

pub(in crate::models) const TABLE: &str = "encoder.rel_embeddings.weight";
const NORM: &str = "encoder.LayerNorm";
const KEYS: &str = "attention.self.pos_key_proj";
const QUERIES: &str = "attention.self.pos_query_proj";

/// The settings by which a distance between tokens selects a row of the table, and the uses of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::models) struct Disentangled {
    /// The number of table rows for keys after the query. The table has the same number of rows for all other keys.
    pub span: usize,
    /// If set, distances from `span / 2` up to this distance are grouped into buckets of growing size.
    pub max_distance: Option<usize>,
    /// True if a norm is applied to the rows.
    pub normed: bool,
    /// True if the layer's own query and key matrices project the rows.
    pub shared: bool,
    /// True if scores include q · (key of the distance), which configs call `c2p`.
    pub keys: bool,
    /// True if scores include k · (query of the distance), which configs call `p2c`.
    pub queries: bool,
}

/// The table and its norm, with their weights loaded.
#[derive(Debug)]
pub(in crate::models) struct LoadedTable {
    disentangled: Disentangled,
    hidden: usize,
    table: Table,
    norm: Option<Norm>,
}

/// The table rows that a batch needs, before a layer's projection.
#[derive(Debug, Clone, Copy)]
pub(in crate::models) struct States {
    states: Activations,
    rows: TensorId,
    reach: usize,
}

impl Disentangled {
    /// Checks that the number of buckets and the maximum distance allow buckets of growing size. `field` is the config
    /// field of the maximum distance.
    pub fn check(self, config: &JsonFile, field: &str) -> Result<Self, Error> {
        let Some(max) = self.max_distance else { return Ok(self) };
        if self.span < 2 {
            let problem = format!("is {}; expected: at least 2", self.span);
            return Err(config.error("position_buckets", problem));
        }
        let minimum = self.span / 2 + 2;
        if max < minimum {
            let problem = format!("is {max}; expected: at least {minimum}");
            return Err(config.error(field, problem));
        }
        Ok(self)
    }

    /// Returns the table row of a distance, key − query. The row number falls or stays the same as the distance grows.
    ///
    /// Each step is rounded to f32, as in torch. Without this rounding, a distance at the edge of a bucket would fall
    /// into the neighbouring bucket. The logarithms are computed in f64 and rounded, because f32 logarithms differ
    /// between platforms.
    fn row(self, distance: i64) -> u32 {
        let middle = self.span / 2;
        let far = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
        let bucket = match self.max_distance {
            Some(max) if far > middle => {
                let steps = f64::from(far as f32 / middle as f32).ln() as f32;
                let all = f64::from(((max - 1) as f64 / middle as f64) as f32).ln() as f32;
                let grown = (steps / all * (middle - 1) as f32).ceil() as i64;
                (grown + middle as i64) * -distance.signum()
            }
            _ => -distance,
        };
        let span = self.span as i64;
        (bucket.clamp(-span, span - 1) + span) as u32
    }

    /// Returns a description of the terms and the distances, for reports.
    pub fn describe(self) -> String {
        let terms = match (self.keys, self.queries) {
            (true, true) => "keys and queries",
            (true, false) => "keys",
            _ => "queries",
        };
        let span = self.span;
        match self.max_distance {
            Some(max) => format!(
                "{terms} for {span} position buckets in each direction, up to a distance of {max} \
                 tokens"
            ),
            None => format!("{terms} for distances up to {span} tokens"),
        }
    }

    /// Loads the table and its norm.
    pub fn load(
        self,
        loader: &mut Loader,
        prefix: &str,
        hidden: usize,
        eps: f32,
    ) -> Result<LoadedTable, Error> {
        let table = loader.table(&format!("{prefix}{TABLE}"), hidden)?;
        let norm = self.normed.then(|| loader.norm(&format!("{prefix}{NORM}"), hidden, eps));
        Ok(LoadedTable { disentangled: self, hidden, table, norm: norm.transpose()? })
    }

    /// Loads a layer's projection of the rows; `None` if the layer projects them with the query and key matrices of its
    /// tokens. `part` returns the tensor name of a part of the layer.
    pub fn load_projection(
        self,
        loader: &mut Loader,
        part: impl Fn(&str) -> String,
        hidden: Axis,
        heads: Axis,
    ) -> Result<Option<Linear>, Error> {
        if self.shared {
            return Ok(None);
        }
        let names: Vec<String> = [(self.queries, QUERIES), (self.keys, KEYS)]
            .into_iter()
            .filter(|(there, _)| *there)
            .map(|(_, name)| part(name))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        loader.linear(&names, true, hidden, heads).map(Some)
    }
}

impl LoadedTable {
    /// Returns the table rows for the distances of a batch. A row's values do not depend on the batch.
    ///
    /// The rows are f32 even if activations are f16. An overflow in a row would affect every text, but an overflow flag
    /// belongs to one token and could not report it.
    pub fn states(&self, builder: &mut Builder, batch: &PackedBatch) -> States {
        let longest = batch.longest();
        let reach = longest.max(1) as i64 - 1;
        let first = self.disentangled.row(reach);
        let rows: Vec<u32> = (first..=self.disentangled.row(-reach)).collect();
        let activations = std::mem::replace(&mut builder.activations, Storage::F32);
        let (table, rows) = table_rows(builder, &self.table, &rows);
        let rows: Vec<[u32; 4]> = rows.into_iter().map(|row| [row, 0, 0, 0]).collect();
        let mut states = lookup_of(builder, &rows, &[table], self.hidden, 1.0);
        if let Some(norm) = &self.norm {
            states = layer_norm(builder, states, None, norm);
        }
        builder.activations = activations;
        let row = |distance| self.disentangled.row(distance) - first;
        let (rows, reach) = relative_rows(builder, longest, row);
        States { states, rows, reach }
    }

    /// Returns a layer's keys and queries of the distances. `projection` computes them, or the layer's `qkv` if there
    /// is no `projection`.
    pub fn relative(
        &self,
        builder: &mut Builder,
        states: States,
        projection: Option<&Linear>,
        qkv: &Linear,
        heads: usize,
    ) -> Relative {
        let Disentangled { keys, queries, .. } = self.disentangled;
        let linear = projection.unwrap_or(qkv);
        let of = matmul(builder, "relative", states.states, linear, Activation::None, None);
        // If the projection has heads of queries, they come before the heads of keys.
        let before = if projection.is_none() || queries { heads } else { 0 };
        Relative {
            of,
            rows: states.rows,
            reach: states.reach,
            keys: keys.then_some(before),
            queries: queries.then_some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disentangled(span: usize, max_distance: Option<usize>) -> Disentangled {
        let (normed, shared, keys, queries) = (true, true, true, true);
        Disentangled { span, max_distance, normed, shared, keys, queries }
    }

    /// Expects the values of `make_log_bucket_position` in transformers 5.23, clamped as in the attention of
    /// transformers. The test compares the first distance of each row, for distances from 0 to 600.
    #[test]
    fn rows_match_transformers() {
        let starts = |d: Disentangled, sign: i64| -> Vec<i64> {
            (0..=600).filter(|n| *n == 0 || d.row(sign * n) != d.row(sign * (n - 1))).collect()
        };
        let d = disentangled(32, Some(132));
        let mut grown: Vec<i64> = (0..=17).collect();
        grown.extend([19, 22, 25, 29, 33, 38, 43, 50, 57, 65, 75, 87, 99, 114]);
        assert_eq!(starts(d, -1), grown);
        grown.push(132);
        assert_eq!(starts(d, 1), grown);
        assert_eq!([600, 1, 0, -1, -600].map(|n| d.row(n)), [0, 31, 32, 33, 63]);
        assert_eq!(starts(disentangled(8, Some(80)), 1), [0, 1, 2, 3, 4, 5, 11, 30, 80]);
        let cut = disentangled(20, None);
        assert_eq!([600, 20, 19, 0, -19, -20].map(|n| cut.row(n)), [0, 0, 1, 20, 39, 39]);
    }
}
