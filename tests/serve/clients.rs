//! Tests real clients with their default settings. Their vectors must be bit-identical to those of `vectile embed`,
//! and errors must become the client's own exceptions.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vectile::{Reranker, block_on};

use crate::asked::{MODEL, node, program_vectors, python, row, rows, run, url};
use crate::program::Program;
use crate::soak;
use crate::support::{fixture, model_files};

const TEXTS: [&str; 5] = [
    "A cat sat on the warm tin roof.",
    "Naïve café, ÜBER-große façade",
    "日本語と中文 mixed with English",
    "smile 😀 and wave",
    "the same text twice",
];

fn start() -> Program {
    Program::start(&[fixture(MODEL)], &["--api-key", "secret"])
}

fn ask(program: &Program, command: std::process::Command, script: &str) -> Value {
    run(command, script, &[&url(program), MODEL, &json!(TEXTS).to_string()])
}

/// Options of the program, for comparison with APIs whose vectors always have length one.
const SCALED: &[&str] = &["--normalize"];

/// Checks that the vectors from each of `ways` equal the program's vectors with these options.
fn same_vectors(told: &Value, ways: &[&str], options: &[&str]) {
    let expected = program_vectors(&TEXTS, options);
    let vectors = told["vectors"].as_object().unwrap();
    assert_eq!(vectors.len(), ways.len());
    for way in ways {
        assert_eq!(rows(&vectors[*way]), expected, "{way}");
    }
}

/// Checks that a mistake raised this exception of the client, with this status and these words from the server.
fn refused(told: &Value, mistake: &str, class: &str, status: u16, words: &[&str]) {
    let error = &told["errors"][mistake];
    assert_eq!(error["class"], class, "{mistake}: {error}");
    assert_eq!(error["status"], status, "{mistake}: {error}");
    for word in words {
        assert!(
            error["says"].as_str().unwrap().contains(word),
            "{mistake}: no `{word}` in {error}"
        );
    }
}

#[test]
fn openai_for_python() {
    let Some(python) = python() else { return };
    let program = start();
    let told = ask(&program, python, "ask_openai.py");
    same_vectors(&told, &["base64", "float"], &[]);
    assert_eq!(rows(&told["one"]), program_vectors(&TEXTS[..1], &[]));
    assert_eq!(told["short"], 8);
    assert!(told["usage"].as_u64().unwrap() > 2);
    assert_eq!(told["models"], json!([MODEL]));
    assert_eq!(told["retrieved"], MODEL);
    refused(&told, "unknown model", "NotFoundError", 404, &["no-such-model", MODEL]);
    refused(&told, "empty list", "BadRequestError", 400, &["input"]);
    refused(&told, "token ids", "BadRequestError", 400, &["token", "check_embedding_ctx_length"]);
    refused(&told, "too many dimensions", "BadRequestError", 400, &["100000", "48"]);
    refused(&told, "wrong key", "AuthenticationError", 401, &["key"]);
    refused(&told, "no such route", "NotFoundError", 404, &["/v1/chat/completions"]);
}

#[test]
fn openai_for_node() {
    let Some(node) = node() else { return };
    let program = start();
    let told = ask(&program, node, "ask_openai.mjs");
    same_vectors(&told, &["base64", "float"], &[]);
    assert_eq!(told["models"], json!([MODEL]));
    refused(&told, "unknown model", "NotFoundError", 404, &["no-such-model", MODEL]);
    refused(&told, "empty list", "BadRequestError", 400, &["input"]);
    refused(&told, "wrong key", "AuthenticationError", 401, &["key"]);
}

#[test]
fn langchain() {
    let Some(python) = python() else { return };
    let program = start();
    let told = ask(&program, python, "ask_langchain.py");
    same_vectors(&told, &["documents", "query"], &[]);
    refused(&told, "unknown model", "NotFoundError", 404, &["no-such-model"]);
}

#[test]
fn huggingface_hub() {
    let Some(python) = python() else { return };
    let program = start();
    let told = ask(&program, python, "ask_hub.py");
    same_vectors(&told, &["each", "all", "base"], SCALED);
    let vectors = program_vectors(&TEXTS, SCALED);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    for way in ["similarity", "base_similarity"] {
        let similar = row(&told[way]);
        assert_eq!(similar.len(), TEXTS.len() - 1);
        for (found, other) in similar.iter().zip(&vectors[1..]) {
            assert!((f64::from(*found) - dot(&vectors[0], other)).abs() < 1e-6, "{similar:?}");
        }
    }
    refused(&told, "unknown prompt", "HfHubHTTPError", 422, &[]);
    refused(&told, "wrong key", "HfHubHTTPError", 401, &[]);
}

/// The reranker that clients use. Its activation function is Identity.
const RERANKER: &str = "bert";

/// Runs a script against a server with an embedding model and a reranker.
fn ask_both(script: &str) -> Option<Value> {
    let python = python()?;
    let models = [fixture(MODEL), fixture("rerankers/bert")];
    let program = Program::start(&models, &["--api-key", "secret"]);
    let texts = json!(TEXTS).to_string();
    Some(run(python, script, &[&url(&program), MODEL, &texts, RERANKER]))
}

/// Returns the library's ranking of the other texts for the first text, as indices and scores.
fn library_ranking() -> Vec<(usize, f32)> {
    let files = model_files("rerankers/bert");
    let reranker = crate::support::build(Reranker::builder(files)).unwrap();
    let ranked = block_on(reranker.rank(TEXTS[0], &TEXTS[1..])).unwrap();
    ranked.into_iter().map(|one| (one.index, one.score)).collect()
}

/// Checks a client's ranking, which is a list of pairs of index and score.
fn same_ranking(told: &Value, expected: &[(usize, f32)]) {
    let pair = |one: &Value| (one[0].as_u64().unwrap() as usize, one[1].as_f64().unwrap() as f32);
    let told: Vec<(usize, f32)> = told.as_array().unwrap().iter().map(pair).collect();
    assert_eq!(told, expected);
}

/// Returns a ranking with TEI's scores, which are probabilities instead of the model's logits.
fn probabilities(ranking: &[(usize, f32)]) -> Vec<(usize, f32)> {
    let sigmoid = |logit: f32| (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32;
    ranking.iter().map(|(index, logit)| (*index, sigmoid(*logit))).collect()
}

#[test]
fn cohere() {
    let Some(told) = ask_both("ask_cohere.py") else { return };
    same_vectors(&told, &["every", "plain"], &[]);
    let ranking = library_ranking();
    same_ranking(&told["ranked"], &ranking);
    assert_eq!(told["best"], json!([ranking[0].0, ranking[1].0]));
    let vectors = program_vectors(&TEXTS, &[]);
    let encodings = &told["encodings"];
    for (at, vector) in vectors.iter().enumerate() {
        let dim = vector.len();
        let count = |kind: &str| encodings[kind][at].as_array().unwrap().len();
        assert_eq!((count("int8"), count("uint8")), (dim, dim));
        assert_eq!((count("binary"), count("ubinary")), (dim.div_ceil(8), dim.div_ceil(8)));
        let bytes = STANDARD.decode(encodings["base64"][at].as_str().unwrap()).unwrap();
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
        assert_eq!(values, *vector);
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (value, int8) in vector.iter().zip(row(&encodings["int8"][at])) {
            assert!((value / largest * 127.0 - int8).abs() < 0.501, "{value} {int8}");
        }
    }
    assert!(told["tokens"].as_f64().unwrap() > 10.0);
    refused(&told, "unknown model", "NotFoundError", 404, &["no-such-model"]);
    refused(&told, "not a reranker", "BadRequestError", 400, &["reranker"]);
    refused(&told, "unknown input type", "BadRequestError", 400, &["search_query"]);
    refused(&told, "wrong key", "UnauthorizedError", 401, &["key"]);
}

#[test]
fn langchain_cohere() {
    let Some(told) = ask_both("ask_langchain_cohere.py") else { return };
    let ranking = library_ranking();
    // By default `CohereRerank` returns the three best results.
    same_ranking(&told["ranked"], &ranking[..3]);
    same_ranking(&told["direct"], &ranking);
    refused(&told, "wrong key", "UnauthorizedError", 401, &["key"]);
}

#[test]
fn litellm() {
    let Some(told) = ask_both("ask_litellm.py") else { return };
    same_vectors(&told, &["openai", "hosted_vllm"], &[]);
    let ranking = library_ranking();
    same_ranking(&told["cohere"], &ranking);
    same_ranking(&told["best"], &ranking[..2]);
    same_ranking(&told["huggingface"], &probabilities(&ranking));
    for (mistake, word) in [("unknown model", "no-such-model"), ("wrong key", "key")] {
        let says = told["errors"][mistake]["says"].as_str().unwrap();
        assert!(says.contains(word), "{says}");
    }
}

#[test]
fn llama_index() {
    let Some(told) = ask_both("ask_llama_index.py") else { return };
    // The vectors of both clients have length one, because this model normalizes them.
    same_vectors(&told, &["tei", "openai_like", "query"], &[]);
    refused(&told, "unknown model", "NotFoundError", 404, &["no-such-model"]);
}

#[test]
fn haystack() {
    let Some(told) = ask_both("ask_haystack.py") else { return };
    same_vectors(&told, &["documents", "text", "openai"], &[]);
    same_ranking(&told["ranked"], &probabilities(&library_ranking()));
}

#[test]
fn ollama() {
    let Some(python) = python() else { return };
    let program = start();
    let told = ask(&program, python, "ask_ollama.py");
    same_vectors(&told, &["all", "each"], SCALED);
    assert!(told["tokens"].as_u64().unwrap() > 5 * 2);
    assert!(told["duration"].as_u64().unwrap() > 0);
    refused(&told, "unknown model", "ResponseError", 404, &["no-such-model"]);
    refused(&told, "wrong key", "ResponseError", 401, &["key"]);
}

#[test]
fn openai_waits_before_a_retry_as_the_server_says() {
    let Some(python) = python() else { return };
    let program = Program::start(&[fixture(MODEL)], &["--max-queue-tokens", "512"]);
    let (address, bodies) = (program.address(), soak::bodies(4, 16, 24));
    // More requests are sent than fit into the queue, for as long as the client tries.
    let (send, over) = tokio::sync::oneshot::channel::<()>();
    let busy = std::thread::spawn(move || {
        soak::block_on(async {
            let crowd = soak::pace::closed(address, &bodies, 6, Duration::from_secs(120));
            tokio::select! { _ = crowd => {}, _ = over => {} }
        });
    });
    let told = ask(&program, python, "retry_openai.py");
    drop(send);
    busy.join().unwrap();
    assert_eq!(told["error"]["class"], "RateLimitError", "{told}");
    assert_eq!(told["error"]["status"], 429);
    let number = |name: &str| told["waits"][name].as_str().unwrap().parse::<f64>().unwrap();
    assert!(number("retry-after") >= 1.0 && number("retry-after").fract() == 0.0, "{told}");
    assert!((50.0..=60_000.0).contains(&number("retry-after-ms")), "{told}");
    assert_eq!(told["rows"], TEXTS.len());
}
