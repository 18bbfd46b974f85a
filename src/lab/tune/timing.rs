//! Measures the time of a variant of the matmul.

use std::time::Instant;

use crate::convert;
use crate::dtype::{Precision, Storage};
use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::graph::TensorSource;
use crate::gpu::trace::{Measure, Trace};
use crate::kernels::matmul::{
    LinearTensors, RowSize, Variant, WeightShape, Work, matmul_of, stride4,
};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

/// The minimum duration of a run in nanoseconds. A shorter run is measured badly, because clocks are coarse and short
/// dispatches consist mostly of overhead.
const RUN_NS: f64 = 1e6;

/// The maximum number of dispatches in a run.
const DISPATCHES: usize = 32;

/// The time of a dispatch in nanoseconds: the median, minimum and maximum over several runs.
pub(super) struct Times {
    pub median: f64,
    pub minimum: f64,
    pub maximum: f64,
}

/// A weight matrix on the device, with the executor and the buffers for multiplying by the matrix.
pub(super) struct Bench<'a> {
    executor: &'a mut Executor,
    precision: &'a Precision,
    plan: &'a KernelPlan,
    shape: WeightShape,
    /// The index of the matrix and the index of the bias in the executor's list of weights.
    weights: [usize; 2],
}

impl<'a> Bench<'a> {
    pub fn new(
        executor: &'a mut Executor,
        precision: &'a Precision,
        plan: &'a KernelPlan,
        shape: WeightShape,
    ) -> Result<Self, Error> {
        let WeightShape { inner4, columns4 } = shape;
        let matrix = values(precision.weights, inner4 * 4 * stride4(columns4) * 4);
        let bias = values(Storage::F32, columns4 * 4);
        let mut weights = [0; 2];
        for (number, (name, bytes)) in weights.iter_mut().zip([("matrix", matrix), ("bias", bias)])
        {
            *number = executor.add_weight(name, bytes.len() as u64)?;
            executor.write_weight(*number, 0, &bytes)?;
        }
        executor.finish_uploads()?;
        Ok(Bench { executor, precision, plan, shape, weights })
    }

    pub fn work(&self, rows: usize) -> Work {
        Work {
            storages: (self.precision.weights, self.precision.activations),
            rows,
            weight: self.shape,
            experts: false,
        }
    }

    /// Returns the times of a variant for one number of rows. The first run is not counted.
    pub async fn time(
        &mut self,
        variant: Variant,
        rows: usize,
        runs: usize,
    ) -> Result<Times, Error> {
        let plan = KernelPlan { forced: Some(variant), max_flops: u64::MAX, ..self.plan.clone() };
        let mut dispatches = 1;
        // The first run compiles the pipeline. The time of the second run determines how many dispatches a timed run
        // needs.
        self.run(&plan, rows, dispatches).await?;
        let once = self.run(&plan, rows, dispatches).await?;
        dispatches = ((RUN_NS / once.max(1.0)).ceil() as usize).clamp(1, DISPATCHES);
        let mut times = Vec::new();
        for run in 0..runs.max(2) {
            let ns = self.run(&plan, rows, dispatches).await?;
            if run > 0 {
                times.push(ns.max(1.0));
            }
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        Ok(Times { median, minimum: times[0], maximum: times[times.len() - 1] })
    }

    /// Runs the matmul `dispatches` times, and returns the mean time of a dispatch in nanoseconds.
    async fn run(
        &mut self,
        plan: &KernelPlan,
        rows: usize,
        dispatches: usize,
    ) -> Result<f64, Error> {
        let mut builder = Builder::new(plan, self.precision);
        let storage = self.precision.activations;
        let bytes = values(storage, rows * self.shape.inner4 * 4);
        let id = builder.graph.add("x", bytes.len() as u64, TensorSource::Input(bytes));
        let width = self.shape.inner4 * 4;
        let x = Activations { id, rows, width, width4: self.shape.inner4, storage };
        let [matrix, bias] = self.weights;
        let weight = builder.weight("w", matrix);
        let linear = LinearTensors { weight, bias: builder.weight("bias", bias) };
        let size = RowSize::of(self.shape.columns4 * 4);
        let y = matmul_of(&mut builder, "y", x, linear, size, Activation::None, None);
        let dispatch = builder.graph.dispatches.clone();
        for _ in 1..dispatches {
            builder.graph.dispatches.extend(dispatch.iter().cloned());
        }
        builder.graph.output = Some(y.id);
        builder.graph.tokens = rows;
        self.executor.measure(Some(Trace::new(Measure::Gpu)));
        let since = Instant::now();
        let outcome = self.executor.run(&builder.graph).await;
        let wall = since.elapsed().as_nanos() as f64;
        let trace = self.executor.measure(None);
        outcome?;
        let of_gpu: u64 = trace.map_or(0, |trace| trace.dispatches.iter().map(|d| d.ns).sum());
        let all = if self.executor.has_timestamps() { of_gpu as f64 } else { wall };
        Ok(all / dispatches as f64)
    }
}

/// Returns the bytes of `count` varied values, without special values such as zero, infinity or subnormal numbers.
fn values(storage: Storage, count: usize) -> Vec<u8> {
    let values: Vec<f32> =
        (0..count).map(|at| ((at * 2503) % 4093) as f32 / 2046.5 - 1.0).collect();
    let mut bytes = Vec::new();
    convert::encode(storage, &values, &mut bytes);
    bytes
}
