//! Buffers for weights, which are written piece by piece.

use crate::error::Error;
use crate::gpu::executor::Executor;

impl Executor {
    /// The maximum number of weight writes that are in flight at the same time.
    pub(crate) const UPLOADS_AT_ONCE: usize = 2;

    /// Makes a buffer for a weight, which [`Executor::write_weight`] then fills. Returns the buffer's number.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`], or [`Error::Adapter`] if the weight exceeds the adapter's binding limit.
    pub fn add_weight(&mut self, name: &str, bytes: u64) -> Result<usize, Error> {
        self.gpu.adapter.check_weight(name, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        self.weights.push(self.gpu.buffer(name, bytes.max(16), usage)?);
        Ok(self.weights.len() - 1)
    }

    /// Writes a part of a weight. Each call submits its write and waits for an earlier write, so that staging memory
    /// does not accumulate.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn write_weight(&mut self, weight: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.gpu.calls.write(&self.weights[weight], offset, bytes)?;
        // In a browser, writes need no submit, and code cannot block to wait for them.
        if cfg!(not(target_arch = "wasm32")) {
            self.uploads.push(self.gpu.calls.submit(None)?);
            if self.uploads.len() > Self::UPLOADS_AT_ONCE {
                let oldest = self.uploads.remove(0);
                self.wait("uploading weights", vec![oldest])?;
            }
        }
        self.gpu.check("uploading weights", bytes.len() as u64)
    }

    /// Waits until all weights are written.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn finish_uploads(&mut self) -> Result<(), Error> {
        let uploads = std::mem::take(&mut self.uploads);
        self.wait("uploading weights", uploads)?;
        self.gpu.check("uploading weights", 0)
    }
}
