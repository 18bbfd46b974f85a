//! The results of `vectile tune` on an adapter: the fastest variant of the matmul for each kind of work, and the file
//! that stores them.

use std::collections::BTreeMap;
#[cfg(feature = "lab")]
use std::io;
use std::path::Path;
#[cfg(feature = "lab")]
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "lab")]
use super::WeightShape;
use super::{MATMUL_COOP, MATMUL_FEW, MATMUL_TILE, Variant, Work};
#[cfg(feature = "lab")]
use crate::dtype::Storage;
#[cfg(feature = "lab")]
use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::shader;

/// The numbers of rows at which variants are measured. A measurement also applies to smaller numbers of rows, down to
/// the previous number in this list. For more rows than the last number, the fastest tile at the last number is used.
pub const ROWS: [usize; 7] = [4, 16, 64, 256, 1024, 4096, 16384];

/// The fastest variant for one shape of weight, one storage type of weights and of activations, and one number of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The storage type of weights.
    pub weights: String,
    /// The storage type of activations.
    pub activations: String,
    /// The number of cells (four values each) in a row of x.
    pub inner4: usize,
    /// The number of cells (four values each) in a row of y.
    pub columns4: usize,
    /// The number of rows, one of [`ROWS`]; `None` for a choice that does not depend on the number of rows.
    pub rows: Option<usize>,
    /// The name of the variant, as [`Variant::name`] returns it.
    pub variant: String,
}

/// All choices for one adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// The choices, one for each combination of shape, storage types and number of rows.
    pub choices: Vec<Choice>,
}

/// Returns the key under which the choices for an adapter are stored. The key contains the driver and a digest of the
/// WGSL sources of the matmul kernels, since a change of either may change which variant is fastest.
pub(crate) fn key(adapter: &AdapterSummary) -> String {
    let sources = [&MATMUL_TILE, &MATMUL_FEW, &MATMUL_COOP].map(|kernel| kernel.source);
    format!("{} | shaders {}", adapter.key(), shader::digest(&sources))
}

/// The name of the file in the cache directory that holds the choices of every adapter.
const FILE: &str = "kernels.json";

fn read_all(cache: &Path) -> BTreeMap<String, Tuned> {
    let bytes = crate::files::read_cached(&cache.join(FILE)).unwrap_or_default();
    // A cache file that does not parse counts as empty, so the untuned choices apply.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Returns the choices that the cache directory holds under a key, or `None`.
pub(crate) fn read(cache: &Path, key: &str) -> Option<Tuned> {
    read_all(cache).remove(key)
}

/// Adds choices to those that the cache directory holds under a key, and returns the path of the file.
///
/// # Errors
/// Returns [`Error::File`] if the file cannot be written.
#[cfg(feature = "lab")]
pub(crate) fn write(cache: &Path, key: &str, found: Tuned) -> Result<PathBuf, Error> {
    let path = cache.join(FILE);
    let mut all = read_all(cache);
    all.entry(key.to_owned()).or_default().merge(found);
    let written = serde_json::to_vec_pretty(&all)
        .map_err(io::Error::from)
        .and_then(|json| crate::files::write_whole(&path, &json));
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            Err(Error::file(path.display().to_string(), format!("cannot be written: {error}")))
        }
    }
}

impl Choice {
    fn is_for(&self, work: &Work) -> bool {
        (self.inner4, self.columns4) == (work.weight.inner4, work.weight.columns4)
            && self.weights == work.storages.0.name()
            && self.activations == work.storages.1.name()
    }

    /// Is true if both choices are for the same shape, storage types and number of rows.
    fn same_work(&self, other: &Choice) -> bool {
        let work = |choice: &Choice| Choice { variant: String::new(), ..choice.clone() };
        work(self) == work(other)
    }
}

impl Tuned {
    /// Adds later choices. A later choice replaces an earlier choice for the same work.
    pub fn merge(&mut self, later: Tuned) {
        self.choices.retain(|old| !later.choices.iter().any(|new| new.same_work(old)));
        self.choices.extend(later.choices);
    }

    /// Is true if there is a choice for a weight of this shape with these storage types of weights and activations.
    #[cfg(feature = "lab")]
    pub(crate) fn knows(&self, storages: (Storage, Storage), weight: WeightShape) -> bool {
        let work = Work { storages, rows: 0, weight, experts: false };
        self.choices.iter().any(|choice| choice.is_for(&work))
    }

    /// Returns the variant among `candidates` that was measured as the fastest for the matmul that `work` describes;
    /// `None` if no measurement applies.
    pub(super) fn variant(&self, work: &Work, candidates: &[Variant]) -> Option<Variant> {
        let of_work = self.choices.iter().filter(|choice| choice.is_for(work));
        let beyond = |choice: &&Choice| choice.rows.is_some_and(|rows| rows >= work.rows);
        let smallest = of_work.clone().filter(beyond).min_by_key(|choice| choice.rows);
        // A measurement of `matmul_few` does not apply to more rows than were measured.
        let tiles = of_work.filter(|choice| !choice.variant.starts_with("few"));
        let choice = smallest.or_else(|| tiles.max_by_key(|choice| choice.rows))?;
        choice.rows?;
        candidates.iter().find(|variant| variant.name() == choice.variant).copied()
    }

    /// Returns whether to use cooperative matrices for a shape of weight, at any number of rows; `None` if that was not
    /// measured.
    pub(super) fn matrices(&self, work: &Work) -> Option<bool> {
        let mut of_work = self.choices.iter().filter(|choice| choice.is_for(work));
        let choice = of_work.find(|choice| choice.rows.is_none())?;
        Some(choice.variant.starts_with("cooperative"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "lab"))]
    use crate::dtype::Storage;
    #[cfg(not(feature = "lab"))]
    use crate::kernels::matmul::WeightShape;
    use crate::kernels::matmul::{FEW_ROWS, OutputTile};

    fn choice(rows: Option<usize>, variant: &str) -> Choice {
        let (weights, activations) = ("f16".to_owned(), "f32".to_owned());
        Choice {
            weights,
            activations,
            inner4: 96,
            columns4: 384,
            rows,
            variant: variant.to_owned(),
        }
    }

    fn work(rows: usize) -> Work {
        let storages = (Storage::F16, Storage::F32);
        Work { storages, rows, weight: WeightShape { inner4: 96, columns4: 384 }, experts: false }
    }

    fn other_shape(weight: WeightShape) -> Work {
        Work { weight, ..work(1) }
    }

    #[test]
    fn rows_between_two_measurements_take_the_larger() {
        let tuned = Tuned {
            choices: vec![
                choice(Some(16), "few 16"),
                choice(Some(256), "tile 64x64"),
                choice(Some(1024), "tile 128x128"),
            ],
        };
        let variants: Vec<Variant> = OutputTile::ALL
            .map(Variant::Tile)
            .into_iter()
            .chain(FEW_ROWS.map(Variant::Few))
            .collect();
        let found =
            |rows: usize| tuned.variant(&work(rows), &variants).map(|variant| variant.name());
        assert_eq!(found(1).as_deref(), Some("few 16"));
        assert_eq!(found(17).as_deref(), Some("tile 64x64"));
        assert_eq!(found(257).as_deref(), Some("tile 128x128"));
        assert_eq!(found(1 << 20).as_deref(), Some("tile 128x128"));
        let few = Tuned { choices: vec![choice(Some(16), "few 16")] };
        assert_eq!(few.variant(&work(17), &variants), None);
        // A measurement does not apply if the device cannot run the fastest variant, or if the matmul has another
        // size.
        assert_eq!(tuned.variant(&work(1), &[Variant::Tile(OutputTile::PLAIN)]), None);
        assert_eq!(
            tuned.variant(&other_shape(WeightShape { inner4: 95, ..work(1).weight }), &variants),
            None
        );
        let f32 = Work { storages: (Storage::F32, Storage::F32), ..work(1) };
        assert_eq!(tuned.variant(&f32, &variants), None);
    }

    #[test]
    fn matrices_are_chosen_for_a_shape_and_not_by_rows() {
        let mut tuned = Tuned { choices: vec![choice(None, "cooperative")] };
        assert_eq!(tuned.matrices(&work(1)), Some(true));
        assert_eq!(
            tuned.matrices(&other_shape(WeightShape { columns4: 1, ..work(1).weight })),
            None
        );
        let later = vec![choice(None, "tile 64x64"), choice(Some(16), "few 16")];
        tuned.merge(Tuned { choices: later.clone() });
        assert_eq!(tuned.matrices(&work(1)), Some(false));
        assert_eq!(tuned.choices, later);
    }

    #[test]
    fn every_form_has_a_name_of_its_own() {
        let variants: Vec<Variant> = OutputTile::ALL
            .map(Variant::Tile)
            .into_iter()
            .chain(FEW_ROWS.map(Variant::Few))
            .collect();
        for (at, variant) in variants.iter().enumerate() {
            assert!(
                !variants[..at].iter().any(|other| other.name() == variant.name()),
                "{variant}"
            );
        }
    }
}
