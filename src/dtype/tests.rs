//! Tests every entry of the table in the documentation of `resolve`.

use super::*;

fn checkpoint(dtype: FloatDtype) -> CheckpointDtype {
    CheckpointDtype { dtype, source: "config.json torch_dtype".into(), reasons: vec![] }
}

#[test]
fn the_table_of_resolve() {
    use DtypeRequest as R;
    use FloatDtype as C;
    use HalfFallback as H;
    use Reason::*;
    use Storage::*;
    type Row = (R, C, bool, bool, H, Option<(Storage, Storage, Vec<Reason>)>);
    // The columns are: requested dtype, checkpoint dtype, `SHADER_F16`, unsafe architecture, and half fallback. The
    // last column holds the expected storage types of weights and activations, and the expected reasons.
    let rows: Vec<Row> = vec![
        (R::Auto, C::Float32, true, false, H::F32, Some((F32, F32, vec![]))),
        (R::Auto, C::Float32, false, false, H::Error, Some((F32, F32, vec![]))),
        (R::Auto, C::Float16, true, false, H::F32, Some((F16, F16, vec![]))),
        (R::Auto, C::Float16, false, false, H::F32, Some((F32, F32, vec![AdapterNoShaderF16]))),
        (
            R::Auto,
            C::Float16,
            false,
            false,
            H::Packed,
            Some((PackedF16, F32, vec![AdapterNoShaderF16])),
        ),
        (R::Auto, C::Float16, false, false, H::Error, None),
        (R::Auto, C::Bfloat16, true, false, H::F32, Some((PackedBf16, F32, vec![]))),
        (R::Auto, C::Bfloat16, false, false, H::Error, Some((PackedBf16, F32, vec![]))),
        (R::Auto, C::Bfloat16, true, true, H::F32, Some((PackedBf16, F32, vec![]))),
        (R::Auto, C::Float16, true, true, H::F32, Some((F16, F32, vec![ActivationsUnsafeInF16]))),
        (R::Auto, C::Float16, false, true, H::F32, Some((F32, F32, vec![AdapterNoShaderF16]))),
        (R::Float32, C::Float16, true, false, H::F32, Some((F32, F32, vec![]))),
        (R::Float32, C::Bfloat16, false, true, H::Error, Some((F32, F32, vec![]))),
        (R::Float16, C::Float16, true, false, H::Error, Some((F16, F16, vec![]))),
        (R::Float16, C::Float32, true, false, H::F32, Some((F16, F16, vec![RoundedToF16]))),
        (R::Float16, C::Float32, false, false, H::F32, Some((F32, F32, vec![AdapterNoShaderF16]))),
        (
            R::Float16,
            C::Float32,
            false,
            false,
            H::Packed,
            Some((PackedF16, F32, vec![AdapterNoShaderF16, RoundedToF16])),
        ),
        (R::Float16, C::Bfloat16, false, false, H::Error, None),
        (
            R::Float16,
            C::Bfloat16,
            true,
            true,
            H::F32,
            Some((F16, F32, vec![ActivationsUnsafeInF16, RoundedToF16])),
        ),
        (R::Bfloat16, C::Bfloat16, false, false, H::F32, Some((PackedBf16, F32, vec![]))),
        (
            R::Bfloat16,
            C::Float32,
            true,
            false,
            H::F32,
            Some((PackedBf16, F32, vec![RoundedToBf16])),
        ),
        (
            R::Bfloat16,
            C::Float16,
            false,
            true,
            H::Error,
            Some((PackedBf16, F32, vec![RoundedToBf16])),
        ),
    ];
    for (dtype, stored, f16, activations_unsafe, half_fallback, expected) in rows {
        let options = DtypeOptions { dtype, half_fallback, activations: None };
        let caps = if f16 { ShaderF16::Passed } else { ShaderF16::Absent };
        let got = resolve(options, checkpoint(stored), caps, F16Facts { activations_unsafe }, None)
            .ok()
            .map(|p| (p.weights, p.activations, p.reasons));
        let row =
            format!("{dtype:?} {stored:?} f16={f16} unsafe={activations_unsafe} {half_fallback:?}");
        assert_eq!(got, expected, "{row}");
    }
}

#[test]
fn activations_can_be_chosen_independently() {
    let resolved = |dtype, activations, caps, activations_unsafe| {
        let options =
            DtypeOptions { dtype, activations: Some(activations), ..DtypeOptions::default() };
        resolve(
            options,
            checkpoint(FloatDtype::Float16),
            caps,
            F16Facts { activations_unsafe },
            None,
        )
        .unwrap()
    };
    let p = resolved(DtypeRequest::Auto, ActivationsRequest::F32, ShaderF16::Passed, false);
    assert_eq!((p.weights, p.activations), (Storage::F16, Storage::F32));
    let p = resolved(DtypeRequest::Bfloat16, ActivationsRequest::F16, ShaderF16::Passed, false);
    assert_eq!((p.weights, p.activations), (Storage::PackedBf16, Storage::F16));
    let p = resolved(DtypeRequest::Float32, ActivationsRequest::F16, ShaderF16::Disabled, false);
    assert_eq!((p.weights, p.activations), (Storage::F32, Storage::PackedF16));
    let p = resolved(DtypeRequest::Float16, ActivationsRequest::F16, ShaderF16::Passed, true);
    assert_eq!((p.weights, p.activations), (Storage::F16, Storage::F16), "explicit override");
    assert!(!p.retries_in_f32());
}

#[test]
fn the_cpu_keeps_weights_and_widens_activations() {
    use Storage::*;
    let cpu = Reason::CpuActivationsF32;
    let resolved = |options, dtype| {
        let facts = F16Facts { activations_unsafe: true };
        resolve(options, checkpoint(dtype), ShaderF16::NoShaders, facts, None)
            .map(|p| (p.weights, p.activations, p.reasons))
    };
    let auto = DtypeOptions::default();
    for (dtype, expected) in [
        (FloatDtype::Float32, (F32, F32, vec![])),
        (FloatDtype::Float16, (F16, F32, vec![cpu])),
        (FloatDtype::Bfloat16, (PackedBf16, F32, vec![])),
    ] {
        assert_eq!(resolved(auto, dtype), Ok(expected));
    }
    let half = DtypeOptions { dtype: DtypeRequest::Float16, ..auto };
    let rounded = (F16, F32, vec![cpu, Reason::RoundedToF16]);
    assert_eq!(resolved(half, FloatDtype::Float32), Ok(rounded));
    // With `HalfFallback::Error`, f32 must not replace f16.
    let strict = DtypeOptions { half_fallback: HalfFallback::Error, ..half };
    let error = resolved(strict, FloatDtype::Float16).unwrap_err().to_string();
    assert!(error.contains("the CPU stores activations in f32"), "{error}");
    let asked = DtypeOptions { activations: Some(ActivationsRequest::F16), ..auto };
    assert_eq!(resolved(asked, FloatDtype::Float32), Ok((F32, F32, vec![cpu])));
    assert_eq!(resolved(asked, FloatDtype::Float16), Ok((F16, F32, vec![cpu])));
}

fn verdict(safety: F16Safety) -> F16Verdict {
    F16Verdict { safety, decided_by: "layer 0 up reaches 109400".into() }
}

#[test]
fn a_measured_verdict_overrides_the_architecture() {
    use DtypeRequest as R;
    use F16Safety::*;
    use FloatDtype as C;
    use HalfFallback as H;
    use Reason::*;
    use Storage::*;
    type Row = (R, C, bool, bool, H, F16Safety, Option<(Storage, Storage, Vec<Reason>)>);
    let risk = || vec![ActivationsMeasuredUnsafeInF16];
    let unfit = || vec![WeightsMeasuredUnsafeInF16];
    // The columns are those of the table above, with the measured verdict after the half fallback.
    let rows: Vec<Row> = vec![
        (R::Auto, C::Float16, true, false, H::F32, Safe, Some((F16, F16, vec![]))),
        (R::Auto, C::Float16, true, true, H::F32, Safe, Some((F16, F16, vec![MeasuredSafeInF16]))),
        (
            R::Auto,
            C::Float16,
            true,
            false,
            H::F32,
            SafeWithF32Activations,
            Some((F16, F32, risk())),
        ),
        (R::Auto, C::Float16, true, true, H::F32, SafeWithF32Activations, Some((F16, F32, risk()))),
        (R::Auto, C::Float16, true, false, H::F32, Unsafe, Some((F32, F32, unfit()))),
        (R::Auto, C::Float16, true, true, H::Packed, Unsafe, Some((F32, F32, unfit()))),
        (R::Auto, C::Float16, true, false, H::Error, Unsafe, None),
        // Packed f16 has the same range as f16, so it is unsafe too.
        (R::Auto, C::Float16, false, false, H::Packed, Unsafe, Some((F32, F32, unfit()))),
        (
            R::Auto,
            C::Float16,
            false,
            true,
            H::F32,
            Safe,
            Some((F32, F32, vec![AdapterNoShaderF16])),
        ),
        (
            R::Auto,
            C::Float16,
            false,
            false,
            H::Packed,
            SafeWithF32Activations,
            Some((PackedF16, F32, vec![AdapterNoShaderF16])),
        ),
        (
            R::Float16,
            C::Float32,
            true,
            false,
            H::F32,
            SafeWithF32Activations,
            Some((F16, F32, vec![ActivationsMeasuredUnsafeInF16, RoundedToF16])),
        ),
        (R::Float16, C::Float32, true, false, H::F32, Unsafe, Some((F32, F32, unfit()))),
        // Without f16 storage, the measured verdict does not matter.
        (R::Auto, C::Bfloat16, true, false, H::F32, Unsafe, Some((PackedBf16, F32, vec![]))),
        (R::Float32, C::Float16, true, true, H::Error, Unsafe, Some((F32, F32, vec![]))),
    ];
    for (dtype, stored, f16, activations_unsafe, half_fallback, safety, expected) in rows {
        let options = DtypeOptions { dtype, half_fallback, activations: None };
        let caps = if f16 { ShaderF16::Passed } else { ShaderF16::Absent };
        let facts = F16Facts { activations_unsafe };
        let measured = verdict(safety);
        let got = resolve(options, checkpoint(stored), caps, facts, Some(&measured)).ok();
        let row = format!("{dtype:?} {stored:?} f16={f16} {half_fallback:?} {safety:?}");
        assert!(got.iter().all(|p| p.measured.as_ref() == Some(&measured)), "{row}");
        let got = got.map(|p| (p.weights, p.activations, p.reasons));
        assert_eq!(got, expected, "{row}");
    }
}

#[test]
fn requested_activations_override_a_measured_verdict() {
    for safety in [F16Safety::Safe, F16Safety::SafeWithF32Activations] {
        for activations_unsafe in [false, true] {
            let options = DtypeOptions {
                activations: Some(ActivationsRequest::F16),
                ..DtypeOptions::default()
            };
            let p = resolve(
                options,
                checkpoint(FloatDtype::Float16),
                ShaderF16::Passed,
                F16Facts { activations_unsafe },
                Some(&verdict(safety)),
            )
            .unwrap();
            assert_eq!((p.weights, p.activations), (Storage::F16, Storage::F16));
            assert_eq!(p.reasons, [Reason::ActivationsRequested]);
        }
    }
}

#[test]
fn the_layer_that_decided_is_named() {
    let p = resolve(
        DtypeOptions::default(),
        checkpoint(FloatDtype::Float16),
        ShaderF16::Passed,
        F16Facts::default(),
        Some(&verdict(F16Safety::SafeWithF32Activations)),
    )
    .unwrap();
    assert!(
        p.to_string().ends_with(
            "; a measurement found the activations too large for f16 (layer 0 up reaches 109400)"
        ),
        "{p}"
    );
    let json = serde_json::to_value(&p).unwrap();
    assert_eq!(json["reasons"][0], "activations_measured_unsafe_in_f16");
    assert_eq!(json["measured"]["safety"], "safe_with_f32_activations");
    assert_eq!(json["measured"]["decided_by"], "layer 0 up reaches 109400");
}

#[test]
fn f16_is_queried_only_if_it_can_change_the_result() {
    for dtype in
        [DtypeRequest::Auto, DtypeRequest::Float32, DtypeRequest::Float16, DtypeRequest::Bfloat16]
    {
        for stored in [FloatDtype::Float32, FloatDtype::Float16, FloatDtype::Bfloat16] {
            for activations in [None, Some(ActivationsRequest::F32), Some(ActivationsRequest::F16)]
            {
                let options = DtypeOptions { dtype, activations, ..DtypeOptions::default() };
                let of = |caps, measured: Option<F16Safety>| {
                    let measured = measured.map(verdict);
                    let facts = F16Facts { activations_unsafe: true };
                    let p = resolve(options, checkpoint(stored), caps, facts, measured.as_ref());
                    p.map(|p| (p.weights, p.activations, p.reasons)).unwrap()
                };
                let all = [
                    of(ShaderF16::Passed, None),
                    of(ShaderF16::Absent, None),
                    of(ShaderF16::FailedSelfTest, Some(F16Safety::Safe)),
                    of(ShaderF16::Disabled, Some(F16Safety::Unsafe)),
                ];
                let differ = all.iter().any(|one| *one != all[0]);
                let what = format!("{dtype:?} {stored:?} {activations:?}");
                assert_eq!(needs_f16(options, &checkpoint(stored)), differ, "{what}");
            }
        }
    }
}

#[test]
fn only_auto_retries() {
    let f16 = |dtype| {
        let options = DtypeOptions { dtype, ..DtypeOptions::default() };
        resolve(
            options,
            checkpoint(FloatDtype::Float16),
            ShaderF16::Passed,
            F16Facts::default(),
            None,
        )
        .unwrap()
    };
    assert!(f16(DtypeRequest::Auto).retries_in_f32());
    assert!(!f16(DtypeRequest::Float16).retries_in_f32());
    assert!(!f16(DtypeRequest::Float32).retries_in_f32());
}

#[test]
fn failed_and_disabled_f16_give_their_own_reasons() {
    for (caps, reason) in [
        (ShaderF16::FailedSelfTest, Reason::ShaderF16FailedSelfTest),
        (ShaderF16::Disabled, Reason::ShaderF16Disabled),
    ] {
        let p = resolve(
            DtypeOptions::default(),
            checkpoint(FloatDtype::Float16),
            caps,
            F16Facts::default(),
            None,
        )
        .unwrap();
        assert_eq!(p.reasons, [reason]);
        assert_eq!(p.weights, Storage::F32);
    }
}

#[test]
fn dtype_names() {
    for name in ["f16", "FP16", "half", "torch.float16", "Float16", " float16 "] {
        assert_eq!(name.parse(), Ok(DtypeRequest::Float16), "{name}");
    }
    for name in ["f32", "fp32", "float", "torch.float32", "FLOAT"] {
        assert_eq!(name.parse(), Ok(DtypeRequest::Float32), "{name}");
    }
    for name in ["bf16", "BFloat16", "torch.bfloat16"] {
        assert_eq!(name.parse(), Ok(DtypeRequest::Bfloat16), "{name}");
    }
    assert_eq!("AUTO".parse(), Ok(DtypeRequest::Auto));
    for name in ["int8", "", "float64", "torch.", "f8"] {
        let message = name.parse::<DtypeRequest>().unwrap_err().to_string();
        assert!(message.contains("float16") && message.contains("bfloat16"), "{message}");
    }
}

#[test]
fn checkpoint_dtype_is_found_in_order() {
    use serde_json::json;
    type Case = (serde_json::Value, Option<(&'static str, &'static str)>, FloatDtype, &'static str);
    let cases: Vec<Case> = vec![
        (json!({"dtype": "bfloat16"}), None, FloatDtype::Bfloat16, "config.json dtype"),
        (json!({"torch_dtype": "float16"}), None, FloatDtype::Float16, "config.json torch_dtype"),
        (
            json!({"dtype": null, "torch_dtype": "torch.bfloat16"}),
            None,
            FloatDtype::Bfloat16,
            "config.json torch_dtype",
        ),
        (
            json!({"text_config": {"torch_dtype": "bfloat16"}}),
            Some(("F32", "a")),
            FloatDtype::Bfloat16,
            "config.json text_config.torch_dtype",
        ),
        (json!({}), Some(("F16", "wte")), FloatDtype::Float16, "the first tensor (wte)"),
        (
            json!({"torch_dtype": "int8"}),
            Some(("BF16", "wte")),
            FloatDtype::Bfloat16,
            "the first tensor (wte)",
        ),
        (json!({"torch_dtype": 5}), None, FloatDtype::Float32, NO_DTYPE),
        (json!({}), None, FloatDtype::Float32, NO_DTYPE),
    ];
    for (config, tensor, dtype, source) in cases {
        let found = CheckpointDtype::find(|key| config.get(key), tensor);
        assert_eq!((found.dtype, found.source.as_str()), (dtype, source), "{config}");
        assert_eq!(found.reasons, []);
    }
    let config = json!({"dtype": "float16", "torch_dtype": "float32"});
    let both = CheckpointDtype::find(|key| config.get(key), None);
    assert_eq!(both.dtype, FloatDtype::Float16);
    assert_eq!(both.reasons, [Reason::DtypeOverTorchDtype]);
    let config = json!({"torch_dtype": "float64"});
    let double = CheckpointDtype::find(|key| config.get(key), None);
    assert_eq!((double.dtype, double.reasons), (FloatDtype::Float32, vec![Reason::Float64AsF32]));
}

#[test]
fn a_precision_is_one_sentence_and_json() {
    let p = resolve(
        DtypeOptions::default(),
        checkpoint(FloatDtype::Float16),
        ShaderF16::Absent,
        F16Facts::default(),
        None,
    )
    .unwrap();
    assert_eq!(
        p.to_string(),
        "f32 weights, f32 activations, f32 sums, because config.json torch_dtype is float16; the \
         adapter has no SHADER_F16"
    );
    let json = serde_json::to_value(&p).unwrap();
    assert_eq!(json["weights"], "f32");
    assert_eq!(json["reasons"][0], "adapter_no_shader_f16");
    assert_eq!(json["checkpoint"]["dtype"], "float16");
}
