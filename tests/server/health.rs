//! Tests readiness, which the server measures by running the model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use vectile::server::{Served, Server};
use vectile::{Embedder, Error, block_on};

use super::support::{
    Running, adapter, bits, bits_of, embedder, files, have_adapter, options, reranker, sparse,
};

#[test]
fn a_lost_device_is_reported_within_a_second_and_recovers() {
    if !have_adapter() {
        return;
    }
    let model = embedder("bert_mean_norm");
    let server = Running::start(options(), vec![Served::embedder("m", model.clone())]);
    let before = server.post("/v1/embeddings", &json!({ "input": "a cat" })).ok();
    server.get("/health/ready").ok();
    for _ in 0..3 {
        let since = Instant::now();
        block_on(model.lose_device());
        let answer = server.get("/health/ready");
        assert_eq!(answer.error(503), "not_ready");
        assert!(answer.message().contains("lost"), "{}", answer.message());
        assert!(answer.header("retry-after-ms").is_some());
        assert!(since.elapsed() < Duration::from_secs(1));
        server.get("/health/live").ok();
        while server.get("/health/ready").status != 200 {
            assert!(since.elapsed() < Duration::from_secs(30), "not ready again");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let after = server.post("/v1/embeddings", &json!({ "input": "a cat" })).ok();
    assert_eq!(before["data"], after["data"]);
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(text.contains("vectile_device_losses_total{model=\"m\"} 3"), "{text}");
    assert!(text.contains("vectile_ready{model=\"m\"} 1"), "{text}");
}

/// If a batch is lost with the device, its request is run again on the new device.
#[test]
fn requests_survive_a_lost_device() {
    if !have_adapter() {
        return;
    }
    let model = embedder("bert_mean_norm");
    let expected = block_on(model.embed(&["a cat"])).unwrap();
    let server = Running::start(options(), vec![Served::embedder("m", model.clone())]);
    for _ in 0..3 {
        block_on(model.lose_device());
        let got = server.post("/v1/embeddings", &json!({ "input": "a cat" })).ok();
        assert_eq!(bits(&got["data"][0]["embedding"]), bits_of(expected.row(0)));
    }
    let states = || server.post("/embed_all", &json!({ "inputs": "a cat" })).ok();
    let before = states();
    block_on(model.lose_device());
    assert_eq!(states(), before);
}

/// Every kind of model has its first pass and its probes. A readiness request runs a model that is idle.
#[test]
fn a_request_for_health_runs_idle_models_of_every_kind() {
    if !have_adapter() {
        return;
    }
    let models = vec![
        Served::embedder("e", embedder("bert_mean_norm")),
        Served::embedder("static", embedder("families/static")),
        Served::reranker("r", reranker("rerankers/bert")),
        Served::sparse("s", sparse("sparse/bert")),
    ];
    let server = Running::start(options(), models);
    let tokens = |model: &str| {
        let text = String::from_utf8(server.get("/metrics").body).unwrap();
        let line = format!("vectile_tokens_total{{model=\"{model}\"}} ");
        let found = text.lines().find_map(|l| l.strip_prefix(&line)?.parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("{line}"))
    };
    std::thread::sleep(Duration::from_millis(1100));
    let before: Vec<f64> = ["e", "r", "s"].map(tokens).to_vec();
    for path in ["/health", "/health/ready"] {
        assert_eq!(server.get(path).ok()["status"], "ready");
    }
    let after: Vec<f64> = ["e", "r", "s"].map(tokens).to_vec();
    assert!(
        before.iter().zip(&after).all(|(before, after)| before < after),
        "{before:?} {after:?}"
    );
}

/// A kernel that computes wrongly is found before the first request.
#[test]
fn a_model_with_a_wrong_kernel_is_not_served() {
    if !have_adapter() {
        return;
    }
    let server = Server::bind(options()).unwrap();
    let load = || {
        let wrong = Embedder::builder(files("bert_mean_norm"))
            .adapter(adapter())
            .edit_shader(("layer_norm", |wgsl| {
                wgsl.replace("let scale = 1.0 /", "let scale = 1.003 /")
            }));
        Ok::<_, Error>(vec![Served::embedder("m", Arc::new(block_on(wrong.build())?))])
    };
    let said = server.run(load, |_| panic!("ready")).unwrap_err().to_string();
    assert!(said.contains("layer_norm") && said.contains("wrong results"), "{said}");
}
