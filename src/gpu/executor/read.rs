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
        let what = "reading the results of a batch from the GPU";
        let (sender, mut receiver) = futures_channel::oneshot::channel();
        self.gpu.calls.map(buffer, 0..bytes, move |result| {
            // `send` fails only if the caller has stopped waiting.
            let _ = sender.send(result);
        })?;
        // A device that does not return its results is not used again.
        let lost = |problem: String| {
            self.gpu.mark_lost(problem.clone());
            Error::DeviceLost { adapter: self.gpu.adapter.name.clone(), problem }
        };
        // In a browser, the event loop delivers the result of `map_async`. With native APIs, the result has arrived
        // when `wait` returns. The result is not awaited, because it may never arrive after a device loss.
        let mapped = if cfg!(target_arch = "wasm32") {
            (&mut receiver).await.ok()
        } else {
            self.wait(what, submitted)?;
            receiver.try_recv().ok().flatten()
        };
        self.gpu.check(what, bytes)?;
        mapped
            .ok_or_else(|| lost("the driver did not return the results of a batch".to_owned()))?
            .map_err(|e| {
                lost(format!("the buffer with the results of a batch could not be mapped: {e}"))
            })?;
        let copy = self.gpu.calls.read(buffer, 0..bytes)?.map_err(|e| {
            Error::Internal(format!(
                "the mapped buffer with the results of a batch cannot be read: {e}"
            ))
        })?;
        self.gpu.calls.unmap(buffer)?;
        self.gpu.check(what, bytes)?;
        Ok(copy)
    }

    /// Blocks until every submit is done, each within the time limit. A wait beyond the limit marks the device as lost.
    ///
    /// # Errors
    /// Returns the faults of the device before the wait, and [`Error::DeviceLost`] if wgpu panics.
    pub(super) fn wait(
        &self,
        what: &str,
        submitted: Vec<wgpu::SubmissionIndex>,
    ) -> Result<(), Error> {
        // wgpu panics in a wait for commands that the device has refused.
        self.gpu.check(what, 0)?;
        for index in submitted {
            if let Err(error) = self.gpu.calls.poll(index, WAIT)? {
                let problem = format!("the GPU did not answer within {WAIT:?}: {error}");
                self.gpu.mark_lost(problem);
                break;
            }
        }
        Ok(())
    }
}
