//! The machine's processor as an adapter: its name, its vector instructions and its number of threads.

use crate::gpu::adapter::{AdapterSummary, NATIVE};

/// Returns the processor as an adapter, with the number of threads that an executor uses by default.
pub fn summary() -> AdapterSummary {
    summary_of(super::workers::default_count())
}

/// Returns the processor as an adapter with this number of threads.
pub(super) fn summary_of(threads: usize) -> AdapterSummary {
    let plural = if threads == 1 { "" } else { "s" };
    AdapterSummary {
        index: 0,
        name: name(),
        device_type: "Cpu".to_owned(),
        backend: NATIVE.to_owned(),
        driver: "vectile".to_owned(),
        driver_info: format!("{threads} thread{plural}, {}", super::packed::kernel_name()),
        shader_f16: false,
        subgroup_sizes: None,
        cooperative_matrix: None,
        max_buffer_bytes: i32::MAX as u64 & !3,
        max_binding_bytes: i32::MAX as u64 & !3,
        workgroup_memory_bytes: 16384,
        workgroup_invocations: 256,
    }
}

/// Returns the name of the processor, as the system reports it.
fn name() -> String {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let mut system = sysinfo::System::new();
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
        if let Some(brand) = brand.filter(|brand| !brand.is_empty()) {
            return format!("CPU {brand}");
        }
    }
    format!("CPU {}", std::env::consts::ARCH)
}
