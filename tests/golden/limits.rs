//! Runs models on a device with low limits. Rows must be the same as without these limits, or loading must fail with a
//! sentence that names the limit.

use std::sync::Arc;

use vectile::gpu::inject::FaultPlan;
use vectile::gpu::limits::LowLimits;
use vectile::{Embedder, EmbedderBuilder, Error, ModelFiles, block_on};

use crate::builder;
use crate::support::{
    REQUIRE_ADAPTER, adapter, build, cosine, lacks_shaders, skip, test_model, texts,
};

fn limited(builder: EmbedderBuilder, limits: LowLimits) -> Result<Embedder, Error> {
    let plan = Arc::<FaultPlan>::default();
    plan.lower_limits(limits);
    block_on(builder.inject(plan).build())
}

#[test]
fn rows_under_the_limits_of_webgpu_are_bit_identical() {
    if lacks_shaders() {
        return;
    }
    for name in ["bert_mean_norm", "families/static", "families/modernbert", "families/qwen3"] {
        let Some(own) = build(builder(name)) else { return };
        let texts = texts(name);
        let expected = block_on(own.embed(&texts)).unwrap();
        let embedder = limited(builder(name), LowLimits::WebGpu).unwrap();
        // The device really has the lower limits.
        assert_eq!(embedder.adapter().max_binding_bytes, 128 << 20);
        assert_eq!(block_on(embedder.embed(&texts)).unwrap().values, expected.values, "{name}");
    }
}

#[test]
fn rows_with_workgroups_of_128_invocations_are_the_same() {
    if lacks_shaders() {
        return;
    }
    let name = "bert_mean_norm";
    for gpu_kernels in [false, true] {
        let base = || {
            let builder = builder(name);
            if gpu_kernels { builder.gpu_kernels() } else { builder }
        };
        let Some(own) = build(base()) else { return };
        let texts = texts(name);
        let expected = block_on(own.embed(&texts)).unwrap();
        let embedder = limited(base(), LowLimits::Invocations(128)).unwrap();
        assert_eq!(embedder.adapter().workgroup_invocations, 128);
        let rows = block_on(embedder.embed(&texts)).unwrap();
        for (row, expected) in rows.rows().zip(expected.rows()) {
            let cosine = cosine(row, expected);
            assert!(cosine >= 0.999999, "kernels for GPUs: {gpu_kernels}, cosine {cosine}");
        }
    }
}

/// In a binding of 1 MiB, the table of all-MiniLM-L6-v2 is gathered on the host, and its matrices are split.
#[test]
fn rows_of_a_real_model_with_bindings_of_one_mebibyte_are_bit_identical() {
    if lacks_shaders() {
        return;
    }
    let Some(directory) = test_model() else {
        skip(REQUIRE_ADAPTER, "VECTILE_TEST_MODEL does not name all-MiniLM-L6-v2");
        return;
    };
    let files = ModelFiles::from_directory(directory).unwrap();
    let base = || Embedder::builder(files.clone()).or_adapter(adapter());
    let texts = ["a cat sat on the roof", "the tram to the harbour leaves at nine"];
    let Some(own) = build(base()) else { return };
    let expected = block_on(own.embed(&texts)).unwrap();
    let embedder = build(base().max_binding_bytes(1 << 20)).unwrap();
    assert_eq!(block_on(embedder.embed(&texts)).unwrap().values, expected.values);
}

#[test]
fn limits_below_those_of_webgpu_are_named_at_load() {
    if lacks_shaders() {
        return;
    }
    let cases = [
        (LowLimits::Downlevel, "4 storage buffers in a shader, but kernels need 6"),
        (LowLimits::StorageBuffers(4), "4 storage buffers in a shader, but kernels need 6"),
        (LowLimits::Invocations(64), "64 invocations in a workgroup, but kernels need 128"),
        (LowLimits::Workgroups(255), "255 workgroups in a dimension, but kernels need 65535"),
    ];
    for (limits, words) in cases {
        let Err(error) = limited(builder("families/static"), limits) else {
            panic!("{limits:?} were accepted")
        };
        assert!(matches!(error, Error::Adapter { .. }), "{limits:?}: {error:?}");
        assert!(error.to_string().contains(words), "{limits:?}: {error}");
    }
}
