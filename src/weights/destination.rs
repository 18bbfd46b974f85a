//! Where weights go: onto a device, or nowhere, where only their sizes are asked for.

use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::Executor;

/// Bytes handed to the GPU at a time.
const UPLOAD: usize = 32 << 20;

/// How far a load has come, for [`ModelBuilder::on_progress`](crate::ModelBuilder::on_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights that are where they belong, in the format they are used in.
    pub done: u64,
    /// Bytes of all weights.
    pub total: u64,
}

/// Bytes of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WeightBytes {
    /// In buffers of the device.
    pub device: u64,
    /// Tables that stay on the host.
    pub host: u64,
    /// The largest matrix that is put in order before it is uploaded.
    pub largest: u64,
}

impl WeightBytes {
    /// On the device and on the host.
    pub fn all(self) -> u64 {
        self.device + self.host
    }

    /// What the host holds of weights on their way, at most: a matrix in order, and what the driver has not
    /// copied yet.
    pub fn on_the_way(self) -> u64 {
        self.largest + self.device.min((UPLOAD * Executor::UPLOADS_AT_ONCE) as u64)
    }
}

/// Takes weights from loaders, one after another.
pub(crate) struct Destination<'a> {
    /// `None` where nothing is stored.
    executor: Option<&'a mut Executor>,
    adapter: AdapterSummary,
    buffers: usize,
    bytes: WeightBytes,
    done: u64,
    total: u64,
    progress: Option<&'a dyn Fn(LoadProgress)>,
}

impl<'a> Destination<'a> {
    /// Counts bytes as they would lie on this adapter, and stores none.
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

    /// Stores weights of `total` bytes and says how far it is.
    pub fn device(
        executor: &'a mut Executor,
        total: u64,
        progress: Option<&'a dyn Fn(LoadProgress)>,
    ) -> Self {
        let adapter = executor.gpu.adapter.clone();
        Destination { executor: Some(executor), total, progress, ..Self::counting(&adapter) }
    }

    /// True where values need not be read.
    pub fn is_counting(&self) -> bool {
        self.executor.is_none()
    }

    /// The largest buffer that a shader sees whole.
    pub fn largest_buffer(&self) -> u64 {
        self.adapter.largest_buffer()
    }

    /// The adapter's name, for messages.
    pub fn adapter(&self) -> &str {
        &self.adapter.name
    }

    /// A new buffer of the device; returns its number.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::Adapter`] where it exceeds what a shader can bind.
    pub fn add(&mut self, name: &str, bytes: u64) -> Result<usize, Error> {
        self.bytes.device += bytes;
        self.buffers += 1;
        match &mut self.executor {
            Some(executor) => executor.add_weight(name, bytes),
            None => self.adapter.check_weight(name, bytes).map(|()| self.buffers - 1),
        }
    }

    /// Writes a part of a buffer.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn write(&mut self, weight: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        for (piece, part) in bytes.chunks(UPLOAD).enumerate() {
            let Some(executor) = &mut self.executor else { return Ok(()) };
            executor.write_weight(weight, offset + (piece * UPLOAD) as u64, part)?;
            self.advance(part.len());
        }
        Ok(())
    }

    /// Counts bytes that stay on the host.
    pub fn keep(&mut self, bytes: u64) {
        self.bytes.host += bytes;
    }

    /// Counts the bytes of a matrix that is put in order before it is uploaded.
    pub fn put_in_order(&mut self, bytes: u64) {
        self.bytes.largest = self.bytes.largest.max(bytes);
    }

    /// So many more bytes are where they belong.
    pub fn advance(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if let Some(progress) = self.progress {
            progress(LoadProgress { done: self.done, total: self.total });
        }
    }

    /// Waits until everything is where it belongs, and returns the bytes that are there, or would be.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn finish(self) -> Result<WeightBytes, Error> {
        if let Some(executor) = self.executor {
            executor.finish_uploads()?;
        }
        Ok(self.bytes)
    }
}
