//! Tests many clients at once: bit-identical vectors, fair shares, admission of whole requests, and disconnections.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vectile::block_on;
use vectile::server::{Served, ServerOptions};

use super::support::{Client, Running, bits, bits_of, embedder, have_adapter, options, texts};

/// Returns the value on the line of the metrics that starts with `line`.
fn metric(server: &Running, line: &str) -> f64 {
    let answer = server.get("/metrics");
    let text = String::from_utf8(answer.body).unwrap();
    let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

fn start(options: ServerOptions) -> Running {
    Running::start(options, vec![Served::embedder("m", embedder("bert_mean_norm"))])
}

#[test]
fn vectors_are_bit_identical_to_the_library_under_concurrency() {
    if !have_adapter() {
        return;
    }
    let texts = texts(60);
    let expected = block_on(embedder("bert_mean_norm").embed(&texts)).unwrap();
    let server = start(options());
    std::thread::scope(|scope| {
        for client in 0..8_usize {
            let (server, texts, expected) = (&server, &texts, &expected);
            scope.spawn(move || {
                let mut connection = server.connect();
                for round in 0..12_usize {
                    let count = 1 + (client * 5 + round * 3) % 9;
                    let places: Vec<usize> = (0..count)
                        .map(|i| (client * 17 + round * 29 + i * 7) % texts.len())
                        .collect();
                    let input: Vec<&String> = places.iter().map(|place| &texts[*place]).collect();
                    let body = json!({ "input": input }).to_string();
                    let headers = [("content-type", "application/json")];
                    let answer =
                        connection.send("POST", "/v1/embeddings", &headers, body.as_bytes()).ok();
                    for (at, place) in places.iter().enumerate() {
                        let got = bits(&answer["data"][at]["embedding"]);
                        assert_eq!(got, bits_of(expected.row(*place)), "{place}");
                    }
                }
            });
        }
    });
    assert_eq!(metric(&server, "vectile_budget_used_tokens{model=\"m\"}"), 0.0);
    assert_eq!(metric(&server, "vectile_f32_fallbacks_total{model=\"m\"}"), 0.0);
    assert!(metric(&server, "vectile_tokens_total{model=\"m\"}") > 1000.0);
}

/// Returns a request that takes a while.
fn large(count: usize) -> Value {
    json!({ "input": texts(count) })
}

#[test]
fn a_small_request_does_not_wait_for_a_large_one() {
    if !have_adapter() {
        return;
    }
    let server = start(options());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            server.post("/v1/embeddings", &large(400)).ok();
            Instant::now()
        });
        while metric(&server, "vectile_queue_texts{model=\"m\"}") == 0.0 {
            assert!(!waits.is_finished(), "too fast to see");
        }
        let mut small = Vec::new();
        for _ in 0..3 {
            server.post("/v1/embeddings", &json!({ "input": "a" })).ok();
            small.push(Instant::now());
        }
        let large = waits.join().unwrap();
        assert!(small[0] < large, "a small request waited for a large one");
    });
}

/// Hidden states run in the queue, text by text, so others take turns with them.
#[test]
fn vectors_do_not_wait_for_the_hidden_states_of_a_large_request() {
    if !have_adapter() {
        return;
    }
    let server = start(options());
    let tokens = || metric(&server, "vectile_tokens_total{model=\"m\"}");
    let before = tokens();
    let states = server.post("/embed_all", &json!({ "inputs": "a cat" })).ok();
    assert_eq!(tokens() - before, states[0].as_array().unwrap().len() as f64);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            server.post("/embed_all", &json!({ "inputs": texts(400) })).ok();
            Instant::now()
        });
        while metric(&server, "vectile_queue_texts{model=\"m\"}") == 0.0 {
            assert!(!waits.is_finished(), "too fast to see");
        }
        server.post("/v1/embeddings", &json!({ "input": "a" })).ok();
        let small = Instant::now();
        assert!(small < waits.join().unwrap(), "a small request waited for a large one");
    });
    assert_eq!(metric(&server, "vectile_budget_used_tokens{model=\"m\"}"), 0.0);
}

#[test]
fn a_request_that_does_not_fit_is_refused_whole_and_may_retry() {
    if !have_adapter() {
        return;
    }
    let server = start(ServerOptions { max_queue_tokens: Some(400), ..options() });
    std::thread::scope(|scope| {
        let server = &server;
        // Each request is larger than the budget, so it is charged a quarter of the budget.
        let large: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || server.post("/v1/embeddings", &large(200)).ok()))
            .collect();
        while metric(server, "vectile_budget_used_tokens{model=\"m\"}") < 400.0 {
            assert!(!large.iter().any(|large| large.is_finished()), "too fast to see");
        }
        let tokens = metric(server, "vectile_tokens_total{model=\"m\"}");
        let since = Instant::now();
        let refused = server.post("/v1/embeddings", &json!({ "input": texts(5) }));
        assert!(since.elapsed() < Duration::from_secs(2));
        assert_eq!(refused.error(429), "queue_full");
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
        let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((50..=60_000).contains(&millis) && seconds == millis.div_ceil(1000));
        assert!(metric(server, "vectile_tokens_total{model=\"m\"}") >= tokens);
        for large in large {
            assert_eq!(large.join().unwrap()["data"].as_array().unwrap().len(), 200);
        }
    });
    assert_eq!(metric(&server, "vectile_budget_used_tokens{model=\"m\"}"), 0.0);
    server.post("/v1/embeddings", &large(5)).ok();
}

#[test]
fn texts_of_disconnected_clients_are_not_run() {
    if !have_adapter() {
        return;
    }
    let server = start(options());
    let body = large(400).to_string();
    std::thread::scope(|scope| {
        let stays = scope.spawn(|| server.post("/v1/embeddings", &large(300)).ok());
        while metric(&server, "vectile_queue_texts{model=\"m\"}") == 0.0 {
            assert!(!stays.is_finished(), "too fast to see");
        }
        let mut leaves = Client::connect(server.address);
        leaves.write("POST", "/v1/embeddings", &[], body.as_bytes()).unwrap();
        while metric(&server, "vectile_queue_requests{model=\"m\"}") < 2.0 {
            assert!(!stays.is_finished(), "too fast to see");
        }
        drop(leaves);
        assert_eq!(stays.join().unwrap()["data"].as_array().unwrap().len(), 300);
    });
    let since = Instant::now();
    while metric(&server, "vectile_budget_used_tokens{model=\"m\"}") > 0.0
        || metric(&server, "vectile_requests_in_flight") > 1.0
    {
        assert!(since.elapsed() < Duration::from_secs(20), "the charge is not returned");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(metric(&server, "vectile_dropped_texts_total{model=\"m\"}") > 0.0);
    server.post("/v1/embeddings", &json!({ "input": "a" })).ok();
}

/// If a request fails, the requests beside it are not affected.
#[test]
fn a_failing_text_fails_its_own_request_only() {
    if !have_adapter() {
        return;
    }
    let served = vec![Served::embedder("m", embedder("bert_mean_norm"))];
    let server = Running::start(options(), served);
    std::thread::scope(|scope| {
        let bad = scope.spawn(|| {
            let long = "cat ".repeat(5000);
            let request = json!({ "input": ["a", long, "b"], "truncate": false });
            let answer = server.post("/v1/embeddings", &request);
            assert_eq!(answer.error(400), "context_length_exceeded");
            assert_eq!(answer.param(), "input[1]");
        });
        for _ in 0..5 {
            server.post("/v1/embeddings", &large(20)).ok();
        }
        bad.join().unwrap();
    });
}
