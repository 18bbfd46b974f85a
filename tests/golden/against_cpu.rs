//! Tests that `vectile verify` compares an adapter with the CPU, and names the first tensor that differs.

use vectile::{AdapterChoice, Embedder};

use crate::builder;
use crate::support::{lacks, lacks_shaders, model_files};
use crate::verify::run;

#[test]
fn a_fault_that_known_answers_do_not_show_is_found_by_the_cpu_and_named_by_layer() {
    if lacks_shaders() {
        return;
    }
    let family = || builder("families/modernbert");
    // The edit narrows the small windows of late queries. Only the second layer and the third layer have such windows.
    // The window of the known-answer test is larger.
    let wrong = |wgsl: String| {
        let narrow =
            "query - min(query, select(params.before, 0u, query > 20u && params.before < 16u))";
        wgsl.replace("query - min(query, params.before)", narrow)
    };
    let word = |count: usize| vec!["the light between the stars"; count].join(" ");
    let texts = [word(20), "a cat".to_owned(), word(18)];
    let Some(found) = run(family().edit_shader(("attention_lane", wrong)), &texts) else { return };
    if !found.adapter.is_software() {
        lacks("the adapter runs other kernels");
        return;
    }
    assert!(found.kernels.iter().all(|check| check.passed), "{found}");
    assert!(!found.passed, "{found}");
    let against_cpu = &found.against_cpu;
    assert_eq!((&against_cpu.skipped, &against_cpu.not_finite[..]), (&None, &[][..]));
    for comparison in &against_cpu.comparisons {
        assert!(!comparison.failed.contains(&1), "{found}");
    }
    assert_eq!(against_cpu.comparisons[0].failed, [0, 2], "{found}");
    assert!(against_cpu.comparisons[0].share > Some(1.0), "{found}");
    assert_eq!((against_cpu.passed, against_cpu.traced_text), (Some(false), Some(2)));
    let first = against_cpu.first_difference.as_ref().unwrap();
    assert_eq!((first.layer, first.kernel.as_str()), (Some(1), "attention_lane"), "{found}");
    assert!(first.token > 20 && first.share > Some(1.0), "{first:?}");
    for words in ["vectors differ from the CPU's in 2 of 3 texts", "in f32, layer 1 "] {
        assert!(found.failures.iter().any(|failure| failure.contains(words)), "{found}");
    }
    // The unedited kernel passes.
    let found = run(family(), &texts).unwrap();
    assert!(found.passed && found.against_cpu.passed == Some(true), "{found}");
    assert!(found.against_cpu.comparisons.iter().all(|c| c.texts == 3), "{found}");
    assert_eq!((found.against_cpu.traced_text, &found.against_cpu.first_difference), (None, &None));
}

#[test]
fn a_wrong_module_after_the_layers_is_named() {
    if lacks_shaders() {
        return;
    }
    let wrong = builder("bert_ragged")
        .edit_shader(("pool", |wgsl| wgsl.replace("= value[i];", "= value[i] + 0.01 * f32(i);")));
    let Some(found) = run(wrong, &["a cat".into()]) else { return };
    let first = found.against_cpu.first_difference.as_ref().unwrap();
    assert_eq!((first.layer, first.kernel.as_str()), (None, "pool"), "{found}");
    assert_eq!(first.place(), "pooled", "{found}");
}

#[test]
fn the_cpu_is_not_compared_with_itself() {
    let on_cpu = Embedder::builder(model_files("bert_concat")).adapter(AdapterChoice::Cpu);
    let Some(found) = run(on_cpu, &["a cat".into()]) else { return };
    assert!(found.passed && found.against_cpu.comparisons.is_empty(), "{found}");
    assert_eq!(found.against_cpu.passed, None);
    assert!(found.to_string().contains("not compared: the CPU itself ran the model"), "{found}");
}
