//! Takes loaded weights: writes them to a device, or only counts their bytes.

use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::Executor as GpuExecutor;

/// The maximum number of bytes that are written to the GPU at a time.
const UPLOAD_BYTES: usize = 32 << 20;

/// The progress of loading weights, for [`ModelBuilder::on_progress`](crate::ModelBuilder::on_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// The bytes of weights loaded so far, counted in the storage type on the device.
    pub done: u64,
    /// The bytes of all weights, counted in the storage type on the device.
    pub total: u64,
}

/// The bytes of weights on the device and on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WeightBytes {
    /// The bytes in buffers on the device.
    pub device: u64,
    /// The bytes of embedding tables that stay on the host.
    pub host: u64,
    /// The bytes of the largest block that is repacked on the host before it is uploaded.
    pub largest_staged: u64,
}

impl WeightBytes {
    /// Returns the sum of the bytes on the device and on the host.
    pub fn all(self) -> u64 {
        self.device + self.host
    }

    /// Returns the maximum number of bytes of temporary host memory during a load. This memory holds the largest
    /// repacked block, and the uploaded bytes that the driver has not copied to the GPU yet.
    pub fn staging(self) -> u64 {
        self.largest_staged + self.device.min((UPLOAD_BYTES * GpuExecutor::UPLOADS_AT_ONCE) as u64)
    }
}

/// The destination of loaded weights, which all loaders of a model share.
pub(crate) struct Destination<'a> {
    /// The executor of the device; `None` if only sizes are counted.
    executor: Option<&'a mut Executor>,
    adapter: AdapterSummary,
    buffers: usize,
    bytes: WeightBytes,
    done: u64,
    total: u64,
    progress: Option<&'a dyn Fn(LoadProgress)>,
}

impl<'a> Destination<'a> {
    /// Returns a destination that counts the bytes on this adapter and stores nothing.
    pub fn counting(adapter: &AdapterSummary) -> Self {
        Destination {
            executor: None,
            adapter: adapter.clone(),
            buffers: 0,
            bytes: WeightBytes::default(),
            done: 0,
            total: 0,
            progress: None,
        }
    }

    /// Returns a destination that stores weights of `total` bytes on a device and reports progress.
    pub fn device(
        executor: &'a mut Executor,
        total: u64,
        progress: Option<&'a dyn Fn(LoadProgress)>,
    ) -> Self {
        let adapter = executor.adapter().clone();
        Destination { executor: Some(executor), total, progress, ..Self::counting(&adapter) }
    }

    /// Returns true if the destination only counts sizes, so that values need not be read.
    pub fn is_counting(&self) -> bool {
        self.executor.is_none()
    }

    /// Returns the size in bytes of the largest buffer that a shader can bind.
    pub fn largest_buffer(&self) -> u64 {
        self.adapter.largest_buffer()
    }

    /// Returns the adapter's name, for messages.
    pub fn adapter(&self) -> &str {
        &self.adapter.name
    }

    /// Adds a weight buffer and returns its index.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] if the memory does not suffice, and [`Error::Adapter`] if the buffer is larger
    /// than a shader can bind.
    pub fn add(&mut self, name: &str, bytes: u64) -> Result<usize, Error> {
        self.bytes.device += bytes;
        self.buffers += 1;
        match &mut self.executor {
            Some(executor) => executor.add_weight(name, bytes),
            None => self.adapter.check_weight(name, bytes).map(|()| self.buffers - 1),
        }
    }

    /// Writes bytes into a weight buffer at an offset.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] if the memory does not suffice, and [`Error::DeviceLost`] if the device is lost.
    pub fn write(&mut self, weight: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        for (piece, part) in bytes.chunks(UPLOAD_BYTES).enumerate() {
            let Some(executor) = &mut self.executor else { return Ok(()) };
            executor.write_weight(weight, offset + (piece * UPLOAD_BYTES) as u64, part)?;
            self.advance(part.len());
        }
        Ok(())
    }

    /// Adds to the number of bytes that stay on the host.
    pub fn count_host(&mut self, bytes: u64) {
        self.bytes.host += bytes;
    }

    /// Records the bytes of a block that is repacked on the host before it is uploaded.
    pub fn count_staged(&mut self, bytes: u64) {
        self.bytes.largest_staged = self.bytes.largest_staged.max(bytes);
    }

    /// Reports to the caller that `bytes` more bytes are loaded.
    pub fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if let Some(progress) = self.progress {
            progress(LoadProgress { done: self.done, total: self.total });
        }
    }

    /// Waits until all uploads are finished, and returns the bytes of all weights.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] if the memory does not suffice, and [`Error::DeviceLost`] if the device is lost.
    pub fn finish(self) -> Result<WeightBytes, Error> {
        if let Some(executor) = self.executor {
            executor.finish_uploads()?;
        }
        Ok(self.bytes)
    }
}
