//! Real clients with their default settings: vectors bit-identical to `vectile embed`, and errors as the client's own
//! exceptions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::asked::{MODEL, node, program_vectors, python, row, rows, run, url};
use crate::program::Program;
use crate::soak;
use crate::support::fixture;

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

/// Program options for APIs whose vectors always have length one.
const SCALED: &[&str] = &["--normalize"];

/// Checks that the vectors of every way in `ways` equal the program's with these options.
fn same_vectors(told: &Value, ways: &[&str], options: &[&str]) {
    let expected = program_vectors(&TEXTS, options);
    let vectors = told["vectors"].as_object().unwrap();
    assert_eq!(vectors.len(), ways.len());
    for way in ways {
        assert_eq!(rows(&vectors[*way]), expected, "{way}");
    }
}

/// Checks that a mistake raised this exception of the client, with this status and these words of the server.
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
    same_vectors(&told, &["each", "all"], SCALED);
    let vectors = program_vectors(&TEXTS, SCALED);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let similar = row(&told["similarity"]);
    assert_eq!(similar.len(), TEXTS.len() - 1);
    for (found, other) in similar.iter().zip(&vectors[1..]) {
        assert!((f64::from(*found) - dot(&vectors[0], other)).abs() < 1e-6, "{similar:?}");
    }
    refused(&told, "unknown prompt", "HfHubHTTPError", 422, &[]);
    refused(&told, "wrong key", "HfHubHTTPError", 401, &[]);
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
    // More requests than fit into the queue, for as long as the client tries.
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
