//! Makes a test for each combination of storage types, for any model kind.

use vectile::{
    ActivationsRequest, DtypeRequest, Feature, HalfFallback, ModelBuilder as Builder, TextModel,
};

pub fn float32<M: TextModel>(builder: Builder<M>) -> Builder<M> {
    builder.dtype(DtypeRequest::Float32)
}

pub fn float32_for_gpus<M: TextModel>(builder: Builder<M>) -> Builder<M> {
    float32(builder).gpu_kernels()
}

pub fn packed_f16<M: TextModel>(builder: Builder<M>) -> Builder<M> {
    builder
        .dtype(DtypeRequest::Float16)
        .disable(vec![Feature::ShaderF16])
        .half_fallback(HalfFallback::Packed)
}

pub fn packed_bf16_for_gpus<M: TextModel>(builder: Builder<M>) -> Builder<M> {
    builder.dtype(DtypeRequest::Bfloat16).gpu_kernels()
}

pub fn f16_activations<M: TextModel>(builder: Builder<M>) -> Builder<M> {
    builder
        .dtype(DtypeRequest::Float16)
        .half_fallback(HalfFallback::Packed)
        .activations(ActivationsRequest::F16)
}

/// Makes one test for each combination. `$check` gets three arguments: a function that requests the combination from a
/// builder, the suffix of the reference tensors, and the tolerance. The tolerance is `$exact`, or a larger one for
/// 16-bit activations.
macro_rules! in_every_storage {
    ($check:ident, $exact:expr) => {
        #[test]
        fn float32() {
            $check(crate::storages::float32, "", $exact);
        }

        #[test]
        fn float32_by_the_kernels_for_gpus() {
            $check(crate::storages::float32_for_gpus, "", $exact);
        }

        #[test]
        fn packed_f16_weights_are_as_exact_as_their_rounding() {
            $check(crate::storages::packed_f16, ".float16", $exact);
        }

        #[test]
        fn packed_bf16_weights_are_as_exact_as_their_rounding() {
            $check(crate::storages::packed_bf16_for_gpus, ".bfloat16", $exact);
        }

        #[test]
        fn f16_weights_and_activations() {
            $check(crate::storages::f16_activations, ".float16", 5e-2);
        }
    };
}
pub(crate) use in_every_storage;
