//! Which form of the matmul a plan takes for some work: the one place that decides.

use super::KernelPlan;
use super::forms::{Cooperative, FEW, Form, LANE, Tile, Work};
use super::matmul::EXPERT_ROWS;
use crate::dtype::Storage;

/// A tile is taken only where so many of it make y: fewer leave most of a GPU without work. An assumption,
/// which `vectile tune` replaces by measuring.
const FEWEST_GROUPS: usize = 64;

impl KernelPlan {
    /// The form of the matmul for some work.
    ///
    /// Whether matrices or tiles are used depends on the adapter and the precision, never on a batch: they
    /// round in other ways. Tiles of all sizes and columns give the same bits, and of them one that suits
    /// the number of rows is taken.
    pub fn matmul(&self, work: &Work) -> Form {
        if let Some(form) = self.forced {
            return form;
        }
        if self.software {
            // Half of what few rows make would be thrown away; an expert's rows come in sixteens.
            let many = work.rows > 64 && !work.experts;
            return Form::Lane(LANE[usize::from(many)]);
        }
        let tuned = self.tuned.as_deref();
        if let Some(cooperative) = self.cooperative
            && work.storages == (Storage::F16, Storage::F16)
            && tuned.and_then(|tuned| tuned.matrices(work)) != Some(false)
        {
            return self.sized(cooperative, work);
        }
        if !self.by_rows {
            return Form::Tile(Tile::PLAIN);
        }
        if let Some(form) = tuned.and_then(|tuned| tuned.form(work, &self.alike(work.experts))) {
            return form;
        }
        if let Some(rows) = FEW.iter().find(|rows| work.rows <= **rows as usize)
            && !work.experts
        {
            return Form::Few(*rows);
        }
        let mut large = self
            .tiles(work.experts)
            .rev()
            .skip_while(|tile| tile.memory() > self.largest_tile.memory());
        let full = large.find(|tile| tile.groups(work.rows, work.columns4) >= FEWEST_GROUPS);
        Form::Tile(full.or(self.tiles(work.experts).next()).unwrap_or(Tile::PLAIN))
    }

    /// Cooperative matrices in the tile that suits some work.
    fn sized(&self, plain: Cooperative, work: &Work) -> Form {
        if !self.matrices_by_rows {
            return Form::Cooperative(plain);
        }
        let forms = self.matrices(work.experts);
        if let Some(form) = self.tuned.as_deref().and_then(|tuned| tuned.form(work, &forms)) {
            return form;
        }
        // Matrices of 8 are those of GPUs whose registers hold no larger part.
        let suits = |size: &&Cooperative| {
            size.side == 16
                && forms.contains(&Form::Cooperative(**size))
                && size.groups(work.rows, work.columns4) >= FEWEST_GROUPS
        };
        Form::Cooperative(plain.sizes().iter().rev().find(suits).copied().unwrap_or(plain))
    }

    /// The forms by cooperative matrices, which give the same bits.
    pub(crate) fn matrices(&self, experts: bool) -> Vec<Form> {
        let sizes = self.cooperative.into_iter().flat_map(Cooperative::sizes);
        let fit = |size: &Cooperative| !experts || EXPERT_ROWS.is_multiple_of(size.rows as usize);
        sizes.filter(fit).map(Form::Cooperative).collect()
    }

    /// The tiles that the device can run, the smallest first. Of rows that are grouped by expert each tile
    /// has one expert.
    pub(crate) fn tiles(&self, experts: bool) -> impl DoubleEndedIterator<Item = Tile> {
        let (memory, invocations) = (self.workgroup_memory, self.workgroup_invocations);
        Tile::ALL.into_iter().filter(move |tile| {
            tile.memory() <= memory
                && tile.invocations() <= invocations
                && (!experts || EXPERT_ROWS.is_multiple_of(tile.rows as usize))
        })
    }

    /// Every form that gives the bits of [`Tile::PLAIN`].
    pub(crate) fn alike(&self, experts: bool) -> Vec<Form> {
        let few = FEW.iter().filter(|_| !experts).map(|rows| Form::Few(*rows));
        self.tiles(experts).map(Form::Tile).chain(few).collect()
    }

    /// How matmuls of a precision are computed, in words.
    pub fn describe(&self, storages: (Storage, Storage)) -> String {
        let work = Work { storages, rows: 1 << 15, inner4: 1024, columns4: 1024, experts: false };
        match self.matmul(&work) {
            Form::Tile(tile) if self.by_rows && self.forced.is_none() => match &self.tuned {
                None => format!("{} at most, by rows", Form::Tile(tile)),
                Some(_) => "tiles and columns as tuned here, by rows".to_owned(),
            },
            Form::Cooperative(of) if self.matrices_by_rows && self.forced.is_none() => {
                let how = if self.tuned.is_some() { "as tuned here" } else { "at most" };
                format!("{} {how}, by rows", Form::Cooperative(of))
            }
            Form::Lane(_) if self.forced.is_none() => "lanes, by rows".to_owned(),
            form => form.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::tuned::{Choice, Tuned};

    fn plan(largest_tile: Tile) -> KernelPlan {
        KernelPlan { largest_tile, ..KernelPlan::of_gpu() }
    }

    fn work(rows: usize) -> Work {
        let storages = (Storage::F32, Storage::F32);
        Work { storages, rows, inner4: 96, columns4: 384, experts: false }
    }

    #[test]
    fn rows_pick_among_forms_of_the_same_bits() {
        let plan = plan(Tile::ALL[3]);
        let forms = [1, 4, 5, 16, 17, 64, 512, 1024, 1 << 15].map(|rows| plan.matmul(&work(rows)));
        let [small, plain, tall, large] = Tile::ALL.map(Form::Tile);
        let (few4, few8, few16) = (Form::Few(4), Form::Few(8), Form::Few(16));
        assert_eq!(forms, [few4, few4, few8, few16, small, small, tall, large, large]);
        let alike = plan.alike(false);
        assert!(forms.iter().all(|form| alike.contains(form)), "{forms:?}");
        assert!(alike.contains(&plain));
        let cut = KernelPlan { by_rows: false, ..plan };
        for rows in [1, 16, 1 << 15] {
            assert_eq!(cut.matmul(&work(rows)), plain);
        }
    }

    #[test]
    fn matrices_are_for_f16_of_any_number_of_rows_and_for_gpus() {
        let plan = plan(Tile::PLAIN);
        for rows in [1, 16, 17, 1 << 15] {
            let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
            assert!(matches!(plan.matmul(&f16), Form::Cooperative(_)));
            let half = Work { storages: (Storage::F16, Storage::F32), ..work(rows) };
            assert!(!matches!(plan.matmul(&half), Form::Cooperative(_)));
            let software = KernelPlan { software: true, ..plan.clone() };
            let of = if rows > 64 { 32 } else { 16 };
            assert_eq!(software.matmul(&f16), Form::Lane(of));
            assert_eq!(software.matmul(&Work { experts: true, ..f16 }), Form::Lane(16));
        }
    }

    #[test]
    fn rows_pick_among_sizes_of_matrices() {
        let plan = plan(Tile::PLAIN);
        let f16 = |rows| Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
        let size = |plan: &KernelPlan, work: &Work| match plan.matmul(work) {
            Form::Cooperative(of) => [of.rows, of.columns],
            form => panic!("{form}"),
        };
        let sizes = [1, 128, 512, 1024].map(|rows| size(&plan, &f16(rows)));
        assert_eq!(sizes, [[64, 64], [64, 64], [128, 64], [128, 128]]);
        let cut = KernelPlan { matrices_by_rows: false, ..plan.clone() };
        assert_eq!(size(&cut, &f16(1024)), [64, 64]);
        let grouped = Work { experts: true, ..f16(1 << 15) };
        assert_eq!(size(&plan, &grouped), [64, 64]);
        let eight = KernelPlan { cooperative: Some(Cooperative::of(8, 128)), ..plan };
        assert_eq!(size(&eight, &f16(1 << 15)), [64, 64]);
        // Slices of x and w with their filling, and 256 sums of each part.
        for of in Cooperative::of(16, 128).sizes() {
            let halves = of.rows * (of.slice + 8) + of.slice * (of.columns + 8);
            assert!(halves * 2 + 4096 <= 16384, "{of:?}");
        }
    }

    #[test]
    fn what_was_measured_comes_before_what_suits() {
        let choice = |storage: Storage, rows, form: &str| Choice {
            weights: storage.name().to_owned(),
            activations: storage.name().to_owned(),
            inner4: 96,
            columns4: 384,
            rows,
            form: form.to_owned(),
        };
        let choices = vec![
            choice(Storage::F32, Some(4), "tile 32x64"),
            choice(Storage::F32, Some(4096), "tile 128x64"),
            choice(Storage::F16, None, "tile 64x64"),
            choice(Storage::F16, Some(4096), "few 16"),
        ];
        let tuned = Some(Arc::new(Tuned { choices }));
        let plan = KernelPlan { tuned, ..plan(Tile::ALL[3]) };
        assert_eq!(plan.matmul(&work(3)), Form::Tile(Tile::ALL[0]));
        assert_eq!(plan.matmul(&work(1 << 15)), Form::Tile(Tile::ALL[2]));
        // Taller than an expert's rows: what suits is taken.
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan.matmul(&grouped), Form::Tile(Tile::PLAIN));
        let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(100) };
        assert_eq!(plan.matmul(&f16), Form::Few(16));
        let other = Work { inner4: 4, ..f16 };
        assert!(matches!(plan.matmul(&other), Form::Cooperative(_)));
        let cut = KernelPlan { by_rows: false, ..plan };
        assert_eq!(cut.matmul(&work(3)), Form::Tile(Tile::PLAIN));
    }

    #[test]
    fn tiles_fit_the_device_and_the_rows_of_an_expert() {
        let small =
            KernelPlan { workgroup_memory: 8192, workgroup_invocations: 128, ..plan(Tile::ALL[3]) };
        assert_eq!(small.tiles(false).collect::<Vec<_>>(), Tile::ALL[..2]);
        assert_eq!(plan(Tile::ALL[3]).tiles(true).collect::<Vec<_>>(), Tile::ALL[..2]);
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan(Tile::ALL[3]).matmul(&grouped), Form::Tile(Tile::PLAIN));
        let grouped = Work { experts: true, ..work(16) };
        assert_eq!(plan(Tile::ALL[3]).matmul(&grouped), Form::Tile(Tile::ALL[0]));
    }
}
