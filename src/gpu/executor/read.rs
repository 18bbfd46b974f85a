//! Waits for submitted work, and reads results back.

use std::time::Duration;

use crate::error::Error;
use crate::gpu::executor::Executor;

/// The maximum time to wait for one submit. If a submit takes longer, the device counts as lost.
const WAIT: Duration = Duration::from_secs(120);

impl Executor {
    /// Waits for all submitted work and returns the first `bytes` bytes of a read-back buffer.
    pub(super) async fn read(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        submitted: Vec<wgpu::SubmissionIndex>,
    ) -> Result<Vec<u8>, Error> {
        let (sender, mut receiver) = futures_channel::oneshot::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // `send` fails only if the caller has stopped waiting.
            let _ = sender.send(result);
        });
        let lost =
            |problem: String| Error::DeviceLost { adapter: self.gpu.adapter.name.clone(), problem };
        // In a browser, the event loop delivers the result of `map_async`. With native APIs, the result has arrived
        // when `wait` returns. The result is not awaited, because it may never arrive after a device loss.
        let mapped = if cfg!(target_arch = "wasm32") {
            (&mut receiver).await.ok()
        } else {
            self.wait(submitted);
            receiver.try_recv().ok().flatten()
        };
        self.gpu.check("reading the results of a batch from the GPU", bytes)?;
        mapped
            .ok_or_else(|| lost("the driver did not return the results of a batch".to_owned()))?
            .map_err(|e| {
                lost(format!("the buffer with the results of a batch could not be mapped: {e}"))
            })?;
        let view = buffer.get_mapped_range(0..bytes).map_err(|e| {
            Error::Internal(format!(
                "the mapped buffer with the results of a batch cannot be read: {e}"
            ))
        })?;
        let copy = view.to_vec();
        drop(view);
        buffer.unmap();
        Ok(copy)
    }

    /// Blocks until every submit is done, each within the time limit. wgpu panics if the device is lost during the
    /// wait. Such a panic, or a wait beyond the limit, marks the device as lost.
    pub(super) fn wait(&self, submitted: Vec<wgpu::SubmissionIndex>) {
        for index in submitted {
            let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(WAIT) };
            let poll = || self.gpu.device.poll(wait);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return self
                        .gpu
                        .mark_lost(format!("the GPU did not answer within {WAIT:?}: {error}"));
                }
                Err(_) => {
                    return self.gpu.mark_lost("the driver reported a fatal error".to_owned());
                }
            }
        }
    }
}
