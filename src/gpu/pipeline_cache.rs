//! Compiled pipelines kept from run to run, where the driver hands them out: Vulkan alone. Elsewhere the
//! operating system keeps its own.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::gpu::device::Gpu;

/// Bytes of the digest before the driver's data.
const DIGEST: usize = 32;

/// The driver's cache and the file it is kept in.
#[derive(Debug)]
pub(super) struct Kept {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The digest of what the file holds.
    written: Vec<u8>,
}

impl Kept {
    /// What a file of `directory` holds for this device, or nothing yet; `None` where the driver hands no
    /// pipelines out. A file that is cut short, of other content or of another driver is as good as none.
    pub fn open(gpu: &Gpu, directory: &Path) -> Option<Self> {
        if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(&gpu.device.adapter_info())?;
        // The key knows vendor and device only; drivers of one device would overwrite each other's.
        let about = format!("{} | vectile {}", gpu.adapter.key(), env!("CARGO_PKG_VERSION"));
        let path = directory.join(format!("{key}_{}.bin", hex(&digest(about.as_bytes())[..8])));
        let kept = crate::files::read_cached(&path)
            .filter(|bytes| bytes.len() > DIGEST && digest(&bytes[DIGEST..]) == bytes[..DIGEST]);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("vectile"),
            data: kept.as_deref().map(|bytes| &bytes[DIGEST..]),
            fallback: true,
        };
        // SAFETY: the data is what `get_data` gave for an adapter and driver of this key: it lies in a file of
        // our own under that key, and its digest is right. wgpu and the driver check their headers besides.
        let cache = unsafe { gpu.device.create_pipeline_cache(&descriptor) };
        // What a driver says against it is no reason to fail; pipelines are compiled without it then.
        gpu.check("opening kept pipelines", 0).ok()?;
        let written = kept.map_or(Vec::new(), |bytes| bytes[..DIGEST].to_vec());
        Some(Kept { cache, path, written })
    }

    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes what the driver has compiled, if that is not what the file holds.
    pub fn save(&mut self) {
        let Some(data) = self.cache.get_data() else { return };
        let digest = digest(&data);
        if data.is_empty() || digest == self.written {
            return;
        }
        let mut bytes = digest.clone();
        bytes.extend_from_slice(&data);
        if let Err(error) = crate::files::write_whole(&self.path, &bytes) {
            tracing::debug!(%error, "compiled pipelines were not cached");
        }
        // Written or not: another try would fare no better.
        self.written = digest;
    }
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
