//! Caches compiled pipelines for later runs. Only Vulkan returns compiled pipelines to the program. With other APIs,
//! the operating system has its own cache.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::gpu::calls::Calls;
use crate::gpu::device::Gpu;

/// The length in bytes of the digest that precedes the driver's data in the file.
const DIGEST_BYTES: usize = 32;

/// The driver's pipeline cache and the file that backs it.
#[derive(Debug)]
pub(super) struct PipelineFile {
    calls: Calls,
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The digest of the data in the file.
    written: Vec<u8>,
}

impl PipelineFile {
    /// Opens the cache file of this device in `directory`. Returns `None` if the driver does not return compiled
    /// pipelines. A file that is truncated or altered, or that belongs to another driver, counts as empty.
    pub fn open(gpu: &Gpu, directory: &Path) -> Option<Self> {
        if !gpu.calls.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = gpu.calls.pipeline_cache_key()?;
        // wgpu's key contains only the vendor and the device. The file name therefore also contains a hash, so that two
        // drivers of one device do not overwrite each other's file.
        let about = format!("{} | vectile {}", gpu.adapter.key(), env!("CARGO_PKG_VERSION"));
        let path = directory.join(format!("{key}_{}.bin", hex(&digest(about.as_bytes())[..8])));
        let cached = crate::files::read_cached(&path).filter(|bytes| {
            bytes.len() > DIGEST_BYTES && digest(&bytes[DIGEST_BYTES..]) == bytes[..DIGEST_BYTES]
        });
        let data = cached.as_deref().map(|bytes| &bytes[DIGEST_BYTES..]);
        // SAFETY: the data comes from a file that Vectile wrote for the same adapter and driver, and its digest
        // matches. wgpu's `get_data` returned these bytes. wgpu and the driver also check the headers of the data.
        let cache = unsafe { gpu.calls.pipeline_cache(data) }.ok()?;
        // If the driver refuses the cached data, pipelines are compiled without a cache.
        gpu.check("opening cached pipelines", 0).ok()?;
        let written = cached.map_or(Vec::new(), |bytes| bytes[..DIGEST_BYTES].to_vec());
        Some(PipelineFile { calls: gpu.calls.clone(), cache, path, written })
    }

    /// Returns the driver's cache of compiled pipelines.
    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the driver's compiled pipelines to the file, if they differ from those in the file.
    pub fn save(&mut self) {
        let Ok(Some(data)) = self.calls.pipeline_data(&self.cache) else { return };
        let digest = digest(&data);
        if data.is_empty() || digest == self.written {
            return;
        }
        let mut bytes = digest.clone();
        bytes.extend_from_slice(&data);
        if let Err(error) = crate::files::write_whole(&self.path, &bytes) {
            tracing::debug!(%error, "compiled pipelines were not cached");
        }
        // The digest is updated even if the write failed, so that the same data is not written again. A second attempt
        // would fail too.
        self.written = digest;
    }
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
