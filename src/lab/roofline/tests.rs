use serde_json::Value;

use super::cycles::{self, Counts};
use super::*;
use crate::dtype::Storage;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::graph::Workgroups;
use crate::gpu::shader::{Lanes, ShaderVariant};
use crate::kernels::layer_norm::LAYER_NORM;

const COMPILED: &str = include_str!("../../../benches/results/2026-11-30-compilers.json");

#[test]
fn the_loops_are_those_that_the_compilers_counted() {
    let compiled: Value = serde_json::from_str(COMPILED).unwrap();
    let gpus = compiled["gpus"].as_array().unwrap();
    let mut checked = 0;
    for (gpu, loops) in cycles::all() {
        let of = gpus.iter().find(|of| of["gpu"] == gpu.as_str()).unwrap();
        for (key, counts) in loops {
            let found = of["pipelines"].as_array().unwrap().iter().find(|p| {
                let text = |field: &str| p[field].as_str().unwrap().to_owned();
                let branch = text("branch").to_lowercase();
                let words = [text("kernel"), text("form"), branch, text("storages")];
                words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
                    == key
            });
            assert_eq!(counts, counted(&found.unwrap()["counts"]), "{gpu} {key}");
            checked += 1;
        }
    }
    assert_eq!(checked, 491);
}

fn counted(counts: &Value) -> Counts {
    let of = |part: &str, name: &str| counts[part][name].as_f64().unwrap_or(0.0);
    let all = |part: &str| -> f64 {
        counts[part].as_object().unwrap().values().filter_map(Value::as_f64).sum()
    };
    let vectors = |part: &str| of(part, "fma") + of(part, "matrix") + of(part, "vector");
    let (inside, whole) = (vectors("main_loop"), vectors("whole"));
    let other = all("main_loop") - inside;
    [
        of("main_loop", "fma"),
        of("main_loop", "matrix"),
        of("main_loop", "vector"),
        other,
        whole - inside,
        all("whole") - whole - other,
    ]
}

#[test]
fn adapters_are_recognised_by_whole_product_names() {
    let gpu = |name: &str, kind: &str| {
        let adapter = AdapterSummary {
            name: name.to_owned(),
            device_type: kind.to_owned(),
            ..AdapterSummary::webgpu()
        };
        KnownGpu::of(&adapter).map(|gpu| gpu.gpu)
    };
    for (name, expected) in [
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", Some("navi31")),
        ("AMD Radeon RX 7900 XT (RADV NAVI31)", None),
        ("AMD Radeon RX 7600 XT", None),
        ("NVIDIA GeForce RTX 3090", Some("ga102")),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB", Some("ga100")),
        ("Turnip Adreno (TM) 740", Some("a740")),
        ("Apple M1", Some("m1")),
        ("Apple M1 Pro", None),
        ("Apple M1 (G13G A0)", Some("m1")),
        ("NVK ", None),
    ] {
        assert_eq!(gpu(name, "DiscreteGpu").as_deref(), expected, "{name}");
    }
    assert_eq!(gpu("Apple M1", "Cpu"), None);
}

#[test]
fn every_gpu_has_a_source_and_the_peak_of_its_data_sheet() {
    let all = KnownGpu::all();
    assert_eq!(all.len(), 18);
    let tflops = |name: &str| {
        let gpu = all.iter().find(|gpu| gpu.gpu == name).unwrap();
        let clocks = f64::from(gpu.units * gpu.simds) * gpu.clock_ghz / 1e3;
        let matrix = gpu.matrix_flops_per_clock.map(|rate| clocks * rate);
        (clocks * 2.0 * f64::from(gpu.lanes), matrix)
    };
    for (name, f32, matrix) in [
        ("navi10", 9.75, None),
        ("navi31", 30.7, Some(122.9)),
        ("gfx1201", 24.3, Some(194.6)),
        ("tu104", 10.1, Some(40.3)),
        ("ga100", 19.5, Some(311.9)),
        ("ga102", 35.6, Some(71.2)),
        ("m1", 2.6, None),
    ] {
        let (own, own_matrix) = tflops(name);
        assert!((own / f32 - 1.0).abs() < 0.02, "{name}: {own}");
        assert_eq!(own_matrix.is_some(), matrix.is_some(), "{name}");
        assert!(own_matrix.zip(matrix).is_none_or(|(a, b)| (a / b - 1.0).abs() < 0.02), "{name}");
    }
    for gpu in all {
        assert!(gpu.source.contains("data sheet") && gpu.source.contains("Assumption"));
        assert!(!cycles::all()[&gpu.loops].is_empty(), "{}", gpu.gpu);
    }
}

#[test]
fn a_kernel_without_counts_takes_the_time_of_its_bytes_and_of_a_dispatch() {
    let mut graph = Graph::default();
    let x = graph.add("x", 480_000_000, TensorSource::Zeroed);
    let y = graph.add("y", 480_000_000, TensorSource::Scratch);
    let norm = graph.add("norm", 16, TensorSource::Input(vec![0; 16]));
    graph.dispatches.push(Dispatch {
        kernel: &LAYER_NORM,
        variant: ShaderVariant::new(Storage::F32, Storage::F32, Lanes::Alone),
        bindings: vec![x, norm, norm, norm, y],
        params: Vec::new(),
        workgroups: Workgroups::row(1),
        flops: 0,
    });
    let gpu = KnownGpu::all().into_iter().find(|gpu| gpu.gpu == "navi31").unwrap();
    let seconds = shortest_seconds(&gpu, &graph);
    assert!((seconds - 1.005e-3).abs() < 1e-6, "{seconds}");
}
