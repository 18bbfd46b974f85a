//! Tests LoRA adapters for tasks, which are added to the weights at load.

use vectile::{DtypeRequest, EmbedOptions, EmbedderBuilder, block_on};

use crate::support::{build, distance, fixture, read_json, tensor};

const TASKS: [&str; 3] = ["retrieval.query", "retrieval.passage", "text-matching"];

fn builder(family: &str) -> EmbedderBuilder {
    crate::builder(&format!("families/{family}")).dtype(DtypeRequest::Float32)
}

#[test]
fn each_task_agrees_with_its_own_reference() {
    let directory = fixture("families").join("jina_v3_hub");
    let texts: Vec<String> = read_json(&directory.join("texts.json"));
    let reference = |name: &str| tensor(&directory.join("reference.safetensors"), name).1;
    let without = reference("embeddings");
    for task in TASKS {
        let Some(embedder) = build(builder("jina_v3_hub").lora_task(task)) else { return };
        let options = EmbedOptions::default();
        let got = block_on(embedder.embed_with(&texts, &options)).unwrap();
        let expected = reference(&format!("tasks.{task}"));
        let d = distance(&got.values, &expected, got.dim);
        eprintln!("{task}: {d:?}");
        assert!(d.min_cosine >= 0.999_999 && d.relative <= 2e-5, "{task}: {d:?}");
        let other = distance(&got.values, &without, got.dim);
        assert!(other.min_cosine < 0.99, "{task} changes nothing: {other:?}");
    }
}

#[test]
fn unknown_tasks_are_refused() {
    for (family, task, words) in [
        ("jina_v3_hub", "retrieval", &["lora_task", "`retrieval`", "retrieval.query"][..]),
        ("jina_v3", "retrieval.query", &["lora_task", "no LoRA"]),
        ("roberta", "retrieval.query", &["lora_task", "no LoRA"]),
        ("static", "retrieval.query", &["lora_task", "no LoRA"]),
    ] {
        let error = block_on(builder(family).lora_task(task).build()).err().unwrap().to_string();
        for word in words {
            assert!(error.contains(word), "{family}: {error:?} does not say {word:?}");
        }
    }
}
