//! What `vectile tune` found on an adapter: the form of the matmul that was fastest for some work.

use serde::{Deserialize, Serialize};

use super::forms::{Form, Work};
use super::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_TILE};
#[cfg(feature = "lab")]
use crate::dtype::Storage;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::shader;

/// The numbers of rows that forms are measured at; each stands for as many rows and fewer, a tile at the last
/// for more too.
pub const ROWS: [usize; 7] = [4, 16, 64, 256, 1024, 4096, 16384];

/// The fastest form for one shape of weight, in one pair of storages and for some rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// How weights are stored.
    pub weights: String,
    /// How activations are stored.
    pub activations: String,
    /// Cells of a row of x.
    pub inner4: usize,
    /// Cells of a row of y.
    pub columns4: usize,
    /// Rows, of [`ROWS`]; `None` stands for all, of a form that rows must not pick.
    pub rows: Option<usize>,
    /// The form's [`Form::name`].
    pub form: String,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// One for each shape, pair of storages and number of rows.
    pub choices: Vec<Choice>,
}

/// What was found holds for an adapter, its driver and the text of these kernels.
pub(crate) fn key(adapter: &AdapterSummary) -> String {
    let sources = [&MATMUL_TILE, &MATMUL_FEW, &MATMUL_COOP].map(|kernel| kernel.source);
    format!("{} | shaders {}", adapter.key(), shader::digest(&sources))
}

impl Choice {
    fn is_of(&self, work: &Work) -> bool {
        (self.inner4, self.columns4) == (work.inner4, work.columns4)
            && self.weights == work.storages.0.name()
            && self.activations == work.storages.1.name()
    }

    /// True where both are of the same work.
    fn same_work(&self, other: &Choice) -> bool {
        let work = |choice: &Choice| Choice { form: String::new(), ..choice.clone() };
        work(self) == work(other)
    }
}

impl Tuned {
    /// Takes what was found later, in place of what it is of.
    pub fn take(&mut self, later: Tuned) {
        self.choices.retain(|old| !later.choices.iter().any(|new| new.same_work(old)));
        self.choices.extend(later.choices);
    }

    /// True where something was found for a shape, in cells, in some storages.
    #[cfg(feature = "lab")]
    pub(crate) fn knows(
        &self,
        storages: (Storage, Storage),
        [inner4, columns4]: [usize; 2],
    ) -> bool {
        let work = Work { storages, rows: 0, inner4, columns4, experts: false };
        self.choices.iter().any(|choice| choice.is_of(&work))
    }

    /// The form for some work, of those that rows may pick among.
    pub(super) fn form(&self, work: &Work, forms: &[Form]) -> Option<Form> {
        let of = self.choices.iter().filter(|choice| choice.is_of(work));
        let beyond = |choice: &&Choice| choice.rows.is_some_and(|rows| rows >= work.rows);
        let smallest = of.clone().filter(beyond).min_by_key(|choice| choice.rows);
        // A form for few rows says nothing of more than were measured.
        let tiles = of.filter(|choice| !choice.form.starts_with("few"));
        let choice = smallest.or_else(|| tiles.max_by_key(|choice| choice.rows))?;
        choice.rows?;
        forms.iter().find(|form| form.name() == choice.form).copied()
    }

    /// Whether cooperative matrices are to be used for a shape, whatever the rows.
    pub(super) fn matrices(&self, work: &Work) -> Option<bool> {
        let mut of = self.choices.iter().filter(|choice| choice.is_of(work));
        of.find(|choice| choice.rows.is_none()).map(|choice| choice.form.starts_with("cooperative"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "lab"))]
    use crate::dtype::Storage;
    use crate::kernels::forms::{FEW, Tile};

    fn choice(rows: Option<usize>, form: &str) -> Choice {
        let (weights, activations) = ("f16".to_owned(), "f32".to_owned());
        Choice { weights, activations, inner4: 96, columns4: 384, rows, form: form.to_owned() }
    }

    fn work(rows: usize) -> Work {
        let storages = (Storage::F16, Storage::F32);
        Work { storages, rows, inner4: 96, columns4: 384, experts: false }
    }

    #[test]
    fn rows_between_take_the_next_that_was_measured() {
        let tuned = Tuned {
            choices: vec![
                choice(Some(16), "few 16"),
                choice(Some(256), "tile 64x64"),
                choice(Some(1024), "tile 128x128"),
            ],
        };
        let forms: Vec<Form> =
            Tile::ALL.map(Form::Tile).into_iter().chain(FEW.map(Form::Few)).collect();
        let found = |rows: usize| tuned.form(&work(rows), &forms).map(|form| form.name());
        assert_eq!(found(1).as_deref(), Some("few 16"));
        assert_eq!(found(17).as_deref(), Some("tile 64x64"));
        assert_eq!(found(257).as_deref(), Some("tile 128x128"));
        assert_eq!(found(1 << 20).as_deref(), Some("tile 128x128"));
        let few = Tuned { choices: vec![choice(Some(16), "few 16")] };
        assert_eq!(few.form(&work(17), &forms), None);
        // A form that the device cannot run, and work that was not measured.
        assert_eq!(tuned.form(&work(1), &[Form::Tile(Tile::PLAIN)]), None);
        assert_eq!(tuned.form(&Work { inner4: 95, ..work(1) }, &forms), None);
        let f32 = Work { storages: (Storage::F32, Storage::F32), ..work(1) };
        assert_eq!(tuned.form(&f32, &forms), None);
    }

    #[test]
    fn matrices_are_chosen_for_a_shape_and_not_by_rows() {
        let mut tuned = Tuned { choices: vec![choice(None, "cooperative")] };
        assert_eq!(tuned.matrices(&work(1)), Some(true));
        assert_eq!(tuned.matrices(&Work { columns4: 1, ..work(1) }), None);
        let later = vec![choice(None, "tile 64x64"), choice(Some(16), "few 16")];
        tuned.take(Tuned { choices: later.clone() });
        assert_eq!(tuned.matrices(&work(1)), Some(false));
        assert_eq!(tuned.choices, later);
    }

    #[test]
    fn every_form_has_a_name_of_its_own() {
        let forms: Vec<Form> =
            Tile::ALL.map(Form::Tile).into_iter().chain(FEW.map(Form::Few)).collect();
        for (at, form) in forms.iter().enumerate() {
            assert!(!forms[..at].iter().any(|other| other.name() == form.name()), "{form}");
        }
    }
}
