//! Computes a sample of rows a second time, and compares both results.
//!
//! The device computes the sample again in other places of a batch, and the rows must be bit-identical. If the model
//! runs on another adapter than the CPU, the CPU computes the sample too, within a tolerance. The first comparison
//! notices faults that come and go, down to the lowest bit. The second comparison notices faults that stay.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_lock::Mutex as AsyncMutex;

use crate::batch::next_batch;
use crate::config::KindConfig;
use crate::dtype::{Precision, Storage};
use crate::embedder::device::DeviceSetup;
use crate::embedder::memory::{self, Fitted, MemoryEstimate, TokenBudget, max_batch_texts};
use crate::embedder::model::Model;
use crate::embedder::run::Runner;
use crate::embedder::run::prepare::Prepared;
use crate::embedder::run::rows::BatchRows;
use crate::embedder::run::runtime::Runtime;
use crate::embedder::tolerance::{RowDistance, Tolerance, tolerance};
use crate::error::{Error, FAULT_ADVICE};
use crate::executor::Executor;
use crate::gpu::adapter::AdapterChoice;

/// Counts of rows that were computed a second time; see [`ModelBuilder::paranoid`](crate::ModelBuilder::paranoid).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rechecked {
    /// The number of rows that the device computed.
    pub rows: u64,
    /// The number of these rows that were computed again. No row differed by more than the tolerance.
    pub checked: u64,
    /// The name of the CPU that computed the rows too; `None` if only the device itself computed them again.
    pub cpu: Option<String>,
    /// The largest difference between a value and the CPU's value, relative to the length of the CPU's row.
    pub largest_distance: f64,
}

impl fmt::Display for Rechecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rechecked { rows, checked, cpu, largest_distance } = self;
        write!(f, "{checked} of {rows} rows were computed a second time, bit-identical")?;
        match cpu {
            Some(cpu) => write!(f, "; the largest distance from {cpu} is {largest_distance:.1e}"),
            None => Ok(()),
        }
    }
}

/// The decisions about second computations that are made before weights are loaded.
pub(in crate::embedder) struct RecheckPlan {
    every: NonZeroUsize,
    /// The open CPU; `None` if the CPU computes no rows a second time.
    cpu: Option<CpuPlan>,
}

struct CpuPlan {
    setup: DeviceSetup,
    executor: Executor,
    precision: Precision,
    memory: MemoryEstimate,
}

impl RecheckPlan {
    /// Returns a plan for a model that runs on `executor`, opened from `setup`, where it needs `memory`.
    ///
    /// # Errors
    /// Returns [`Error::TooLarge`] if the memory does not suffice for a second copy of the model.
    pub async fn new(
        model: &Model,
        setup: &DeviceSetup,
        executor: &Executor,
        precision: &Precision,
        memory: MemoryEstimate,
        every: NonZeroUsize,
    ) -> Result<Self, Error> {
        // A dry-run device computes nothing, so the CPU's rows would always differ.
        if !cfg!(feature = "cpu") || executor.is_cpu() || executor.is_noop() {
            return Ok(RecheckPlan { every, cpu: None });
        }
        let left = setup.max_memory.map(|most| most.saturating_sub(memory.peak()));
        let setup = DeviceSetup {
            threads: setup.threads,
            max_memory: left,
            ..DeviceSetup::new(AdapterChoice::Cpu)
        };
        let executor = setup.open().await?;
        // The CPU stores activations in f32 only.
        let precision = Precision { activations: Storage::F32, ..precision.clone() };
        let adapter = executor.adapter();
        let budget = TokenBudget::choose(None, adapter, model.widest());
        let plan = setup.plan(&executor);
        let Fitted { memory, .. } = memory::fit(model, &precision, &plan, adapter, left, budget)?;
        Ok(RecheckPlan { every, cpu: Some(CpuPlan { setup, executor, precision, memory }) })
    }

    /// Loads the second copy of the model.
    ///
    /// # Errors
    /// Returns the errors of loading weights.
    pub fn load(self, model: &Model) -> Result<Recheck, Error> {
        let mut found = Rechecked::default();
        let load = |CpuPlan { setup, executor, precision, memory }: CpuPlan| {
            found.cpu = Some(executor.adapter().name.clone());
            let total = memory.weights + memory.host_tables;
            let runtime = Runtime::load(model, &precision, setup, executor, total, &[], None)
                .map_err(|error| memory.explain(error))?;
            let batch_tokens = memory.batch_tokens;
            Ok::<_, Error>(AsyncMutex::new(OnCpu { runtime, precision, batch_tokens }))
        };
        let cpu = self.cpu.map(load).transpose()?;
        Ok(Recheck { every: self.every, cpu, state: Mutex::new(State { found, drawn: 0 }) })
    }
}

/// Computes samples of rows a second time.
#[derive(Debug)]
pub(in crate::embedder) struct Recheck {
    /// The number of rows of which at least one is computed again.
    every: NonZeroUsize,
    cpu: Option<AsyncMutex<OnCpu>>,
    state: Mutex<State>,
}

/// The second copy of the model, on the CPU.
#[derive(Debug)]
struct OnCpu {
    runtime: Runtime,
    precision: Precision,
    batch_tokens: usize,
}

#[derive(Debug)]
struct State {
    found: Rechecked,
    /// The count of numbers that were drawn to choose samples.
    drawn: u64,
}

/// The texts of a batch and the rows that were computed first. Numbers of texts count within the batch.
#[derive(Clone, Copy)]
pub(super) struct FirstRun<'a> {
    pub texts: &'a [&'a Prepared],
    pub rows: &'a BatchRows,
    /// The texts without a finite row.
    pub unusable: &'a [usize],
    /// The texts whose rows were computed with f32 activations, because 16-bit activations overflowed.
    pub in_f32: &'a [usize],
}

impl Recheck {
    pub fn found(&self) -> Rechecked {
        self.lock().found.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns one text of each group of `every` texts, in ascending order. The choice looks random, so that a fault in
    /// one place of a batch is noticed after some batches.
    fn sample(&self, texts: &[usize]) -> Vec<usize> {
        let mut state = self.lock();
        let groups = texts.chunks(self.every.get());
        groups
            .map(|group| {
                state.drawn += 1;
                group[(mixed(state.drawn) % group.len() as u64) as usize]
            })
            .collect()
    }
}

/// Returns a number with no visible relation to `number`, by the function of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the texts of a batch that computes `sample` again, so that no text has the place that it has in the first
/// batch. `sample` ascends. The first batch has `count` texts. If `sample` is only the first text, another text stands
/// before it.
fn other_places(sample: &[usize], count: usize) -> Vec<usize> {
    if sample == [0] {
        return vec![usize::from(count > 1), 0];
    }
    let moves = |by: &usize| {
        let place = |rank: usize| (rank + by) % sample.len();
        sample.iter().enumerate().all(|(rank, text)| place(rank) != *text)
    };
    let by = (0..sample.len()).find(moves).unwrap_or(0);
    let mut places = sample.to_vec();
    places.rotate_right(by);
    places
}

impl Runner {
    /// Computes a sample of a batch's rows a second time.
    ///
    /// # Errors
    /// Returns [`Error::WrongRow`] if a row differs, and the errors of running a batch.
    pub(super) async fn recheck(
        &self,
        recheck: &Recheck,
        runtime: &mut Runtime,
        first: FirstRun<'_>,
    ) -> Result<(), Error> {
        let count = first.texts.len();
        let usable: Vec<usize> = (0..count).filter(|at| !first.unusable.contains(at)).collect();
        let sample = recheck.sample(&usable);
        let in_f32 = Precision { activations: Storage::F32, ..self.precision.clone() };
        let (wide, plain): (Vec<usize>, Vec<usize>) =
            sample.iter().partition(|at| first.in_f32.contains(at));
        for (precision, sample) in [(&self.precision, plain), (&in_f32, wide)] {
            self.recheck_on_device(runtime, precision, &sample, first).await?;
        }
        let mut largest = 0.0;
        if let Some(cpu) = &recheck.cpu {
            largest = self.recheck_on_cpu(&mut *cpu.lock().await, &sample, first).await?;
        }
        let mut state = recheck.lock();
        state.found.rows += usable.len() as u64;
        state.found.checked += sample.len() as u64;
        state.found.largest_distance = state.found.largest_distance.max(largest);
        Ok(())
    }

    /// Computes a sample again on the device, in other places. Texts that have no row, or a row of another precision,
    /// may share the batch.
    async fn recheck_on_device(
        &self,
        runtime: &mut Runtime,
        precision: &Precision,
        sample: &[usize],
        first: FirstRun<'_>,
    ) -> Result<(), Error> {
        if sample.is_empty() {
            return Ok(());
        }
        let mut places = other_places(sample, first.texts.len());
        let tokens: usize = places.iter().map(|at| first.texts[*at].tokens()).sum();
        let budget = runtime.tokens_that_fit.unwrap_or(usize::MAX).min(self.batch_tokens);
        if places.len() > 1 && (tokens > budget || self.max_batch_texts() < places.len()) {
            // The sample is a long text, which needs a batch of its own.
            places = sample.to_vec();
        }
        let batch = self.pack(places.iter().map(|at| &first.texts[*at].tokens));
        let second = runtime.run(&self.model, precision, &batch).await?;
        for (place, at) in places.iter().enumerate().filter(|(_, at)| sample.contains(at)) {
            let (row, again) = (first.rows.row(*at), second.row(place));
            let same = row.iter().map(|v| v.to_bits()).eq(again.iter().map(|v| v.to_bits()));
            if !same {
                let distance = self.distance(row, again).error;
                let problem = format!(
                    "its vector differs by {distance:.1e} from a second computation on this \
                     adapter, which must be bit-identical, so the batch is discarded{FAULT_ADVICE}"
                );
                return Err(self.wrong_row(first.texts[*at], distance, problem));
            }
        }
        Ok(())
    }

    /// Computes a sample again on the CPU. Returns the largest distance of a row.
    async fn recheck_on_cpu(
        &self,
        cpu: &mut OnCpu,
        sample: &[usize],
        first: FirstRun<'_>,
    ) -> Result<f64, Error> {
        let OnCpu { runtime, precision, batch_tokens } = cpu;
        let adapter = runtime.executor.adapter().clone();
        let allowed: Tolerance = tolerance(&self.precision, false);
        let max_texts = max_batch_texts(self.model.dimension, &adapter);
        let (mut rest, mut largest) = (sample, 0.0f64);
        while !rest.is_empty() {
            let lengths = rest.iter().map(|at| first.texts[*at].tokens());
            let (now, later) = rest.split_at(next_batch(lengths, *batch_tokens, max_texts));
            rest = later;
            let batch = self.pack(now.iter().map(|at| &first.texts[*at].tokens));
            let second = runtime.run(&self.model, precision, &batch).await?;
            for (place, at) in now.iter().enumerate() {
                let expected = second.row(place);
                let width = self.model.dimension.max(1);
                let rows = first.rows.row(*at).chunks_exact(width);
                for (row, expected) in rows.zip(expected.chunks_exact(width)) {
                    let distance = self.distance(row, expected);
                    largest = largest.max(distance.error);
                    if allowed.share(distance) <= 1.0 {
                        continue;
                    }
                    let error = distance.error;
                    let problem = format!(
                        "its vector differs by {error:.1e} from the CPU's vector (cosine {:.9}), and {:.0e} is \
                         allowed, so the batch is discarded{FAULT_ADVICE}",
                        distance.cosine, allowed.max_error
                    );
                    return Err(self.wrong_row(first.texts[*at], error, problem));
                }
            }
        }
        Ok(largest)
    }

    /// Returns the distance of a row from the same row of a second computation. The distance is infinite if a value of
    /// the second row is not finite. A row of a reranker is a list of scores, not a direction, so its cosine is not
    /// measured, and a score near 0 is compared as if it were 1.
    fn distance(&self, row: &[f32], expected: &[f32]) -> RowDistance {
        if expected.iter().any(|value| !value.is_finite()) {
            return RowDistance { cosine: 0.0, error: f64::INFINITY };
        }
        let expected: Vec<f64> = expected.iter().map(|value| f64::from(*value)).collect();
        let distance = RowDistance::of(row, &expected);
        if !matches!(self.model.config.kind, KindConfig::Reranker(_)) {
            return distance;
        }
        let length = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
        let scale = if length > 0.0 { length.min(1.0) } else { 1.0 };
        RowDistance { cosine: 1.0, error: distance.error * scale }
    }

    fn wrong_row(&self, text: &Prepared, distance: f64, problem: String) -> Error {
        Error::WrongRow { adapter: self.adapter.name.clone(), text: text.text, distance, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recheck(every: usize) -> Recheck {
        let state = State { found: Rechecked::default(), drawn: 0 };
        let every = NonZeroUsize::new(every).unwrap();
        Recheck { every, cpu: None, state: Mutex::new(state) }
    }

    #[test]
    fn a_sample_has_one_text_of_each_group_and_reaches_every_place() {
        let texts: Vec<usize> = (0..130).collect();
        let (paranoid, mut seen) = (recheck(64), vec![false; texts.len()]);
        for _ in 0..1000 {
            let sample = paranoid.sample(&texts);
            assert_eq!(sample.iter().map(|at| at / 64).collect::<Vec<_>>(), [0, 1, 2]);
            sample.iter().for_each(|at| seen[*at] = true);
        }
        assert!(seen.iter().all(|seen| *seen), "{seen:?}");
        assert_eq!(recheck(1).sample(&texts), texts);
        assert!(recheck(1).sample(&[]).is_empty());
    }

    #[test]
    fn texts_of_a_sample_get_other_places() {
        assert_eq!(other_places(&[0], 1), [0, 0]);
        assert_eq!(other_places(&[0], 2), [1, 0]);
        for count in 2..12usize {
            for chosen in 1..1u32 << count {
                let sample: Vec<usize> = (0..count).filter(|at| chosen >> at & 1 == 1).collect();
                let places = other_places(&sample, count);
                for text in &sample {
                    let place = places.iter().position(|at| at == text).unwrap();
                    assert_ne!(place, *text, "{sample:?}: {places:?}");
                }
            }
        }
    }
}
