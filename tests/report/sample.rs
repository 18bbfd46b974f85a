//! Makes reports with invented figures.

use serde_json::{Value, json};
use vectile::lab::report::{Report, SCHEMA};

/// A name that contains markup. It is used wherever users can choose a name.
pub const HOSTILE: &str = "</script><!--<b>\"a\" & 'b'";

/// Eight precisions, including those with the longest names.
pub const PRECISIONS: [&str; 8] = [
    "f32",
    "f16",
    "f16/f32",
    "packed_f16",
    "packed_f16/packed_f16",
    "packed_bf16",
    "packed_bf16/packed_f16",
    "f32/packed_f16",
];

/// Makes a report of two adapters. One measures time. The other has no timestamps and refused some precisions.
pub fn report() -> Report {
    let mut quiet = adapter(1, "llvmpipe (LLVM 15.0.6, 256 bits)", 3, false);
    quiet["refused"] = json!([{
        "precision": "packed_f16",
        "reason": format!("texts of 64 tokens: a cosine with f32 is 0.1234 {HOSTILE}"),
    }]);
    quiet["disabled"] = json!(["timestamp-query"]);
    quiet["adapter"]["subgroup_sizes"] = Value::Null;
    let value = json!({
        "schema": SCHEMA,
        "vectile": "0.1.0",
        "date": "2026-11-24T12:00:00Z",
        "label": format!("a label {HOSTILE}"),
        "host": { "os": "linux", "arch": "x86_64", "cpu": "A Processor 9000", "threads": 17, "debug_build": true },
        "model": {
            "name": "all-MiniLM-L6-v2",
            "model_type": "bert",
            "modules": ["Transformer: bert", "Pooling: mean", "Normalize: "],
            "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "dimension": 384,
            "max_seq_length": 256,
        },
        "settings": {
            "quick": false, "rounds": 3, "texts": format!("{HOSTILE}.txt"), "accuracy_texts": 231,
            "pairs": ["sts.csv", 1379],
        },
        "adapters": [adapter(0, "An Adapter of a Rather Long Name, Max-Q Edition", 8, true), quiet],
        "wall_s": 83.21,
    });
    serde_json::from_value(value).unwrap()
}

fn adapter(index: usize, name: &str, precisions: usize, timestamps: bool) -> Value {
    let precisions: Vec<Value> = PRECISIONS[..precisions]
        .iter()
        .enumerate()
        .map(|(at, name)| precision(at, name, timestamps))
        .collect();
    let case = json!({
        "kernel": "matmul_tile", "step": "ffn_up", "tokens": 2048, "widths": [385, 1537], "precision": "f16",
        "variant": "gpu", "used": true, "dispatches": 7, "ms": ratio(0.731),
        "gflops": 8123.4, "gbytes": 71.25, "speedup": ratio(1.413),
    });
    json!({
        "adapter": {
            "index": index, "name": name, "device_type": "DiscreteGpu", "backend": "Vulkan",
            "driver": "A driver", "driver_info": "550.1", "shader_f16": true, "subgroup_sizes": [32, 64],
            "cooperative_matrix": 16,
            "max_buffer_bytes": 4_294_967_297_u64, "max_binding_bytes": 2_147_483_647_u64,
            "workgroup_memory_bytes": 49_152, "workgroup_invocations": 1024,
        },
        "disabled": [],
        "timestamps": timestamps,
        "kernels": "gpu",
        "precisions": precisions,
        "refused": [],
        "kernel_sweep": if timestamps { vec![case] } else { Vec::new() },
    })
}

/// Makes a ratio with a median, a minimum and a maximum.
fn ratio(median: f64) -> Value {
    json!({ "median": median, "low": median * 0.957, "high": median * 1.031 })
}

/// Makes the figures of a precision. Every number differs between precisions, and f32 agrees with itself.
fn precision(at: usize, name: &str, timestamps: bool) -> Value {
    let n = at as f64;
    let first = at == 0;
    let of = |value: f64| value * (1.0 + 0.0371 * n);
    let speed = if first {
        json!({ "median": 1.0, "low": 1.0, "high": 1.0 })
    } else {
        ratio(1.31 - 0.07 * (n - 1.0))
    };
    let cells: Vec<Value> = [
        (2048, 16),
        (2048, 64),
        (2048, 0),
        (8192, 16),
        (8192, 64),
        (8192, 256),
    ]
    .iter()
    .map(|(batch, length)| {
        let tokens = 30_011 + batch + length;
        let seconds = of(0.31) + *length as f64 * 1e-3;
        json!({
            "batch_tokens": batch, "text_tokens": length, "texts": 417 + length, "tokens": tokens,
            "rounds_s": [seconds, seconds * 1.021, seconds * 0.983],
            "texts_per_s": f64::from(417 + length) / seconds,
            "tokens_per_s": f64::from(tokens) / seconds,
            "predicted_tokens_per_s": 2.0 * f64::from(tokens) / seconds,
            "speedup": speed,
        })
    })
    .collect();
    let kernel = |name: &str, ms: f64, gflops: Option<f64>| {
        json!({
            "name": name, "dispatches": 36 + at, "ms": of(ms), "share": of(ms) / 40.0,
            "gflops": gflops, "gbytes": of(ms * 31.7),
        })
    };
    let kernels = [
        ("matmul_tile", 17.21),
        ("attention", 5.33),
        ("layer_norm", 1.91),
        ("embed", 0.83),
        ("pool", 0.41),
        ("normalize", 0.213),
        ("gather", 0.117),
        ("mark", 0.0713),
        ("copy", 0.0391),
        ("cast", 0.000_12),
    ];
    let kernels: Vec<Value> = kernels
        .iter()
        .map(|(name, ms)| kernel(name, *ms, (*ms > 1.0).then_some(of(ms * 411.0))))
        .collect();
    json!({
        "name": name,
        "precision": { "weights": "f16", "accumulate": "f32", "weight_bytes": 45_437_953 + at, "reason": { "forced": null } },
        "weights": "f16",
        "activations": "f32",
        "kernels": "gpu, matmul by tiles",
        "weight_bytes": (90_875_905 - 6_000_000 * at),
        "peak_activation_bytes": 37_748_737 - 3_000_001 * at,
        "accuracy": {
            "texts": 231,
            "min_cosine": if first { 1.0 } else { 1.0 - 8.8e-8 * 10f64.powf(n * 0.4) },
            "mean_cosine": if first { 1.0 } else { 1.0 - 2.2e-8 * 10f64.powf(n * 0.4) },
            "max_abs": if first { 0.0 } else { of(2.9e-4) },
            "top10_overlap": 1.0 - 0.0031 * n,
            "spearman": 82.032 + 0.0013 * n,
        },
        "cold": { "load_s": of(0.713), "pipelines_s": of(0.421), "first_batch_s": of(0.0613), "warm_batch_s": of(0.0217), "first_vector_s": of(1.1951) },
        "latency": { "tokens": 10, "samples": 50, "p50_ms": of(1.317), "p95_ms": of(1.911), "speedup": speed },
        "cells": cells,
        "host": {
            "batches": 4, "tokens": 8190 + at, "tokenize_ms": of(3.17), "pack_ms": of(0.517), "upload_ms": of(0.219),
            "encode_ms": of(1.17), "submit_ms": of(0.371), "wait_ms": of(27.13), "read_back_ms": of(0.0417),
            "total_ms": of(32.7),
        },
        "gpu": timestamps.then(|| json!({
            "total_ms": of(26.91), "accounted": 0.9713, "kernels": kernels,
            "steps": [kernel("ffn_up", 9.17, Some(of(7310.0))), kernel("attention_context", 5.37, None)],
        })),
    })
}
