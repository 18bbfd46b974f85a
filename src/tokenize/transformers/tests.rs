#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::Tokenizer;
use super::TransformersVersion::{self, V4, V5};
use crate::config::ModelConfig;
use crate::error::Error;
use crate::files::ModelFiles;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Loads a case of the fixture as if the model had been published for the given version.
fn load(
    case: &Value,
    published: &str,
    chosen: Option<TransformersVersion>,
) -> Result<Tokenizer, Error> {
    let mut tokenizer = fixture(case["source"].as_str().unwrap());
    for (path, value) in case["changes"].as_object().unwrap() {
        tokenizer[path.split('.').next().unwrap()] = match path.split_once('.') {
            None => value.clone(),
            Some((part, field)) => {
                let mut part = tokenizer[part].clone();
                part[field] = value.clone();
                part
            }
        };
    }
    let config = json!({
        "model_type": case["model_type"], "hidden_size": 8, "transformers_version": published
    });
    let mut files =
        vec![("tokenizer.json".to_owned(), tokenizer), ("config.json".to_owned(), config)];
    for (name, contents) in case["files"].as_object().unwrap() {
        if !contents.is_null() {
            files.push((name.clone(), contents.clone()));
        }
    }
    let files = files.into_iter().map(|(name, value)| (name, value.to_string().into_bytes()));
    let files = ModelFiles::from_bytes(files)?;
    let config = ModelConfig::load(&files)?;
    Tokenizer::load(&files, &config, 100_000, None, chosen)
}

/// Cases whose result Vectile does not reproduce. Each has the version, a part of the case's name, and the reason.
const NOT_FOLLOWED: [(TransformersVersion, &str, &str); 4] = [
    (V4, "LlamaTokenizer no settings", NO_CLASS),
    (V4, "None mistral neither", NO_CLASS),
    (V4, "None mistral without a post-processor", NO_CLASS),
    (V5, "None roberta add_prefix_space", NO_CLASS),
];
const NO_CLASS: &str =
    "no file names a class, and the architecture's class is used only if it is BERT's";

#[test]
fn each_field_gives_the_ids_of_both_versions_of_transformers() {
    let fixture = fixture("tokenizer_fields.json");
    let texts: Vec<&str> =
        fixture["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in fixture["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        for (version, key) in [(V4, "4"), (V5, "5")] {
            let expected = &case[key];
            // If a case has no ids, this version of transformers fails to load it.
            if expected["ids"].is_null() {
                continue;
            }
            if NOT_FOLLOWED.iter().any(|(of, part, _)| *of == version && name.contains(part)) {
                continue;
            }
            compared += 1;
            let published = fixture["versions"][key].as_str().unwrap();
            let tokenizer = match load(case, published, None) {
                Ok(tokenizer) => tokenizer,
                Err(error) => {
                    wrong.push(format!("{key} {name}: {error}"));
                    continue;
                }
            };
            for (text, ids) in texts.iter().zip(expected["ids"].as_array().unwrap()) {
                let got = json!(tokenizer.encode(None, text).unwrap().ids);
                if got != *ids {
                    wrong.push(format!("{key} {name}: {text:?} gives {got}, expected {ids}"));
                    break;
                }
            }
            let got = json!(tokenizer.encode_pair("", "one", "two").unwrap().ids);
            if got != expected["pair"] {
                wrong
                    .push(format!("{key} {name}: pair gives {got}, expected {}", expected["pair"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} cases:\n{}", wrong.len(), wrong.join("\n"));
}
