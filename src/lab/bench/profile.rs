//! Measures the time of a run, by phase on the host and by kernel on the GPU.

use std::time::{Duration, Instant};

use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;
use crate::gpu::trace::{DispatchTime, Measure, Phase, Trace};
use crate::lab::report::{GpuTime, HostTime, KernelTime};

/// The profile of a run.
pub(super) struct Profile {
    pub host: HostTime,
    pub gpu: Option<GpuTime>,
    pub peak_activation_bytes: u64,
}

/// Runs the texts twice and returns the times. The first run measures host times. The second run measures the GPU time
/// of every dispatch, which slows some drivers down.
pub(super) async fn profile(embedder: &Embedder, texts: &[String]) -> Result<Profile, Error> {
    // This untimed run allocates buffers and compiles pipelines, so that the timed runs do not.
    embedder.embed(texts).await?;
    let since = Instant::now();
    embedder.tokenize(texts, &EmbedOptions::default())?;
    let tokenize = since.elapsed();

    embedder.measure(Some(Measure::Host)).await;
    let since = Instant::now();
    let tokens = embedder.embed(texts).await?.tokens;
    let total = since.elapsed();
    let by_clock = embedder.measure(Some(Measure::Gpu)).await;
    embedder.embed(texts).await?;
    let by_gpu = embedder.measure(None).await;
    let (Some(by_clock), Some(by_gpu)) = (by_clock, by_gpu) else {
        return Err(Error::Internal(
            "the executor returned no times for a measured run".to_owned(),
        ));
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let phase = |phase| ms(by_clock.phase(phase));
    let host = HostTime {
        batches: by_clock.batches,
        tokens,
        tokenize_ms: ms(tokenize),
        pack_ms: phase(Phase::Pack),
        upload_ms: phase(Phase::Upload),
        encode_ms: phase(Phase::Encode),
        submit_ms: phase(Phase::Submit),
        wait_ms: phase(Phase::Wait),
        read_back_ms: phase(Phase::ReadBack),
        total_ms: ms(total),
    };
    Ok(Profile {
        host,
        gpu: gpu_time(&by_gpu),
        peak_activation_bytes: by_clock.peak_activation_bytes,
    })
}

/// Returns the GPU times that a trace recorded; `None` if the adapter measured no times.
fn gpu_time(trace: &Trace) -> Option<GpuTime> {
    let ns: u64 = trace.dispatches.iter().map(|dispatch| dispatch.ns).sum();
    if trace.gpu_ns == 0 || ns == 0 {
        return None;
    }
    Some(GpuTime {
        total_ms: trace.gpu_ns as f64 / 1e6,
        accounted: ns as f64 / trace.gpu_ns as f64,
        kernels: grouped(&trace.dispatches, |dispatch| dispatch.kernel.name),
        steps: grouped(&trace.dispatches, |dispatch| dispatch.writes),
    })
}

/// Returns the total time of the dispatches for each name, with the longest time first.
fn grouped(
    dispatches: &[DispatchTime],
    name: impl Fn(&DispatchTime) -> &'static str,
) -> Vec<KernelTime> {
    let all: u64 = dispatches.iter().map(|dispatch| dispatch.ns).sum();
    let mut names: Vec<&str> = dispatches.iter().map(&name).collect();
    names.sort_unstable();
    names.dedup();
    let mut times: Vec<KernelTime> = names
        .into_iter()
        .map(|group| {
            let own: Vec<_> = dispatches.iter().filter(|d| name(d) == group).collect();
            let sum =
                |part: fn(&DispatchTime) -> u64| own.iter().map(|d| part(d)).sum::<u64>() as f64;
            let (ns, flops) = (sum(|d| d.ns), sum(|d| d.flops));
            let ns = ns.max(1.0);
            KernelTime {
                name: group.to_owned(),
                dispatches: own.len(),
                ms: ns / 1e6,
                share: ns / all.max(1) as f64,
                gflops: (flops > 0.0).then(|| flops / ns),
                gbytes: sum(|d| d.bytes) / ns,
            }
        })
        .collect();
    times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Storage;
    use crate::gpu::shader::{Lanes, ShaderVariant};
    use crate::gpu::trace::DispatchSizes;
    use crate::kernels::layer_norm::LAYER_NORM;
    use crate::kernels::matmul::MATMUL_TILE;

    #[test]
    fn times_are_summed_by_name_with_the_longest_first() {
        let dispatch = |kernel, writes, ns, flops, bytes| DispatchTime {
            kernel,
            variant: ShaderVariant::new(Storage::F32, Storage::F32, Lanes::Alone),
            writes,
            sizes: DispatchSizes::default(),
            ns,
            flops,
            bytes,
        };
        let mut trace = Trace::new(Measure::Gpu);
        trace.dispatches = vec![
            dispatch(&LAYER_NORM, "x", 1_000_000, 0, 500_000),
            dispatch(&MATMUL_TILE, "qkv", 4_000_000, 8_000_000, 1_000_000),
            dispatch(&MATMUL_TILE, "up", 3_000_000, 6_000_000, 750_000),
        ];
        trace.gpu_ns = 10_000_000;
        let gpu = gpu_time(&trace).unwrap();
        assert_eq!((gpu.total_ms, gpu.accounted), (10.0, 0.8));
        let matmul = &gpu.kernels[0];
        assert_eq!((matmul.name.as_str(), matmul.dispatches, matmul.ms), ("matmul_tile", 2, 7.0));
        assert_eq!((matmul.share, matmul.gflops, matmul.gbytes), (0.875, Some(2.0), 0.25));
        assert_eq!((gpu.kernels[1].name.as_str(), gpu.kernels[1].gflops), ("layer_norm", None));
        let steps: Vec<&str> = gpu.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(steps, ["qkv", "up", "x"]);
        assert_eq!(gpu_time(&Trace::new(Measure::Gpu)), None);
    }
}
