//! Tests calls whose progress is watched, calls that are stopped, calls with a maximum length, and the hidden states
//! before pooling.

use std::ops::ControlFlow;

use vectile::{
    AdapterChoice, EmbedOptions, Embedder, Error, OnTooLong, RerankOptions, Reranker, TextModel,
    block_on,
};

use crate::support::{build, model_files};

const TEXTS: [&str; 4] = ["A cat sat on the roof.", "", "The dog ran.", "Where is the cat?"];

fn embedder(name: &str) -> Option<Embedder> {
    // A batch holds one or two texts, so that a call has several batches.
    build(Embedder::builder(model_files(name)).batch_tokens(8))
}

#[test]
fn the_number_of_threads_reaches_the_cpu() {
    // At least one of these numbers is not the default.
    for (threads, expected) in [(1, "1 thread, "), (3, "3 threads, ")] {
        let builder = Embedder::builder(model_files("bert_mean_norm")).threads(threads);
        let embedder = block_on(builder.adapter(AdapterChoice::Cpu).build()).unwrap();
        let about = &embedder.adapter().driver_info;
        assert!(about.starts_with(expected), "{about}");
    }
}

#[test]
fn each_result_arrives_in_order_and_equals_that_of_the_whole_call() {
    let Some(embedder) = embedder("bert_mean_norm") else { return };
    let whole = block_on(embedder.embed(&TEXTS)).unwrap();
    let mut seen = Vec::new();
    let counts = block_on(embedder.encode_each(&TEXTS, &EmbedOptions::default(), |at, row| {
        seen.push((at, row.unwrap()));
        ControlFlow::Continue(())
    }));
    let counts = counts.unwrap().unwrap();
    assert_eq!(counts.tokens, whole.tokens);
    assert_eq!(seen.len(), TEXTS.len());
    for (at, (index, row)) in seen.iter().enumerate() {
        assert_eq!((*index, row.as_slice()), (at, whole.row(at)));
    }
}

#[test]
fn a_call_stops_where_its_receiver_says_so() {
    let Some(embedder) = embedder("bert_mean_norm") else { return };
    let mut seen = 0;
    let counts = block_on(embedder.encode_each(&TEXTS, &EmbedOptions::default(), |_, _| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    assert_eq!((counts, seen), (Ok(None), 2));
    assert_eq!(block_on(embedder.embed(&TEXTS)).unwrap().len(), TEXTS.len());
}

#[test]
fn an_error_of_one_text_leaves_the_others() {
    let Some(embedder) = embedder("bert_mean_norm") else { return };
    let options = EmbedOptions {
        max_seq_length: Some(5),
        on_too_long: OnTooLong::Error,
        ..EmbedOptions::default()
    };
    let mut results = Vec::new();
    let counts = block_on(embedder.encode_each(&TEXTS, &options, |at, row| {
        results.push((at, row));
        ControlFlow::Continue(())
    }));
    assert!(counts.unwrap().is_some());
    results.sort_by_key(|(at, _)| *at);
    let indices: Vec<usize> = results.iter().map(|(at, _)| *at).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert!(matches!(&results[0].1, Err(Error::TooLong { text: 0, limit: 5, .. })));
    assert!(results[1].1.is_ok());
    let error = block_on(embedder.embed_with(&TEXTS, &options)).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
}

#[test]
fn a_length_of_the_call_replaces_that_of_the_model() {
    let Some(embedder) = embedder("bert_mean_norm") else { return };
    let within = |length| EmbedOptions { max_seq_length: Some(length), ..EmbedOptions::default() };
    let ids = embedder.tokenize(&TEXTS[..1], &within(4)).unwrap();
    let all = embedder.tokenize(&TEXTS[..1], &EmbedOptions::default()).unwrap();
    assert_eq!((ids[0].len(), &ids[0][..3]), (4, &all[0][..3]));
    let cut = block_on(embedder.embed_with(&TEXTS[..1], &within(4))).unwrap();
    assert_eq!((cut.tokens, cut.truncated), (4, vec![0]));
    for length in [0, 2, 100_000] {
        let error = block_on(embedder.embed_with(&TEXTS, &within(length))).unwrap_err();
        assert!(error.to_string().contains(&length.to_string()), "{error}");
    }
}

#[test]
fn token_embeddings_have_a_vector_for_each_token() {
    let Some(embedder) = embedder("bert_mean_norm") else { return };
    let options = EmbedOptions::default();
    let vectors = block_on(embedder.token_embeddings(TEXTS[0], &options)).unwrap();
    assert_eq!(vectors.len(), embedder.tokenize(&TEXTS[..1], &options).unwrap()[0].len());
    // The model's vector is the mean of these hidden states, scaled to length one.
    let row = block_on(embedder.embed(&TEXTS[..1])).unwrap();
    let mut mean = vec![0.0f64; vectors.dim];
    for vector in vectors.rows() {
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    for (mean, value) in mean.iter().zip(row.row(0)) {
        assert!((mean / length - f64::from(*value)).abs() < 1e-5);
    }
}

#[test]
fn logits_are_scores_before_the_activation_function() {
    let Some(reranker) = build(Reranker::builder(model_files("rerankers/bert_bare"))) else {
        return;
    };
    let pairs = [("Where is the cat?", "A cat sat on the roof."), ("cat", "The dog ran.")];
    let options = RerankOptions { logits: true, ..RerankOptions::default() };
    let logits = block_on(reranker.predict_with(&pairs, &options)).unwrap();
    let scores = block_on(reranker.predict(&pairs)).unwrap();
    for (logit, score) in logits.values.iter().zip(&scores.values) {
        let sigmoid = 1.0 / (1.0 + (-f64::from(*logit)).exp());
        assert!((sigmoid - f64::from(*score)).abs() < 1e-6, "{logit} {score}");
    }
    let short = RerankOptions { max_length: Some(8), ..RerankOptions::default() };
    let cut = block_on(reranker.predict_with(&pairs[..1], &short)).unwrap();
    assert_eq!((cut.tokens, cut.truncated), (8, vec![0]));
    let none = RerankOptions { max_length: Some(3), ..RerankOptions::default() };
    let error = block_on(reranker.predict_with(&pairs, &none)).unwrap_err();
    assert!(error.to_string().contains("max_length"), "{error}");
}
