//! Tests every reranker: each directory of `tests/fixtures/rerankers` in every storage type and with both families of
//! kernels. `VECTILE_FAMILY=bert` selects the directories whose names contain `bert`.

use std::path::PathBuf;

use vectile::{Error, ModelFiles, OnTooLong, RerankOptions, Reranker, RerankerBuilder, block_on};

use crate::storages::in_every_storage;
use crate::support::{build, directories, fixture, read_json, tensor};

struct Fixture {
    name: String,
    directory: PathBuf,
    pairs: Vec<(String, String)>,
    /// The contents of `fixture.json`.
    fixture: serde_json::Value,
}

fn fixtures() -> Vec<Fixture> {
    fixtures_of(&std::env::var("VECTILE_FAMILY").unwrap_or_default())
}

fn fixtures_of(only: &str) -> Vec<Fixture> {
    let mut names = directories("rerankers", "", 20);
    names.retain(|name| name.contains(only));
    assert!(!names.is_empty(), "VECTILE_FAMILY: no reranker's name contains {only:?}");
    names
        .into_iter()
        .map(|name| {
            let directory = fixture("rerankers").join(&name);
            let pairs = read_json(&directory.join("pairs.json"));
            let fixture = read_json(&directory.join("fixture.json"));
            Fixture { name, pairs, fixture, directory }
        })
        .collect()
}

fn one(name: &str) -> Fixture {
    fixtures_of(name).into_iter().find(|fixture| fixture.name == name).unwrap()
}

impl Fixture {
    fn builder(&self) -> RerankerBuilder {
        Reranker::builder(ModelFiles::from_directory(&self.directory).unwrap())
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        tensor(&self.directory.join("reference.safetensors"), name)
    }

    /// Checks scores, bit-identical rows and truncation against the tensor `scores` with a suffix.
    fn check(&self, reranker: &Reranker, suffix: &str, tolerance: f64) {
        let what = format!("{}, {}", self.name, reranker.precision());
        let scores = block_on(reranker.predict(&self.pairs)).unwrap();
        let (shape, expected) = self.tensor(&format!("scores{suffix}"));
        assert_eq!([scores.len(), scores.labels], shape[..], "{what}");
        let worst = scores
            .values
            .iter()
            .zip(&expected)
            .map(|(got, expected)| (f64::from(*got) - expected).abs() / expected.abs().max(1.0))
            .fold(0.0, f64::max);
        // If outliers amplify rounding errors, the tolerance follows the error of torch in f32.
        let torch = self.fixture["torch_float32_logits"].as_f64().unwrap();
        assert!(worst <= tolerance.max(2.0 * torch), "{what}: {worst:e}");
        for (i, row) in scores.rows().enumerate().rev() {
            let alone = block_on(reranker.predict(&self.pairs[i..=i])).unwrap();
            assert_eq!(alone.values, row, "{what}: pair {i} alone and in a batch");
        }
        let (_, full) = self.tensor("full_lengths");
        let limit = reranker.max_seq_length().unwrap() as f64;
        let cut: Vec<usize> =
            full.iter().enumerate().filter(|(_, n)| **n > limit).map(|(i, _)| i).collect();
        assert!(cut.len() >= 6, "{what}");
        assert_eq!(scores.truncated, cut, "{what}");
        eprintln!("{what}: worst {worst:.1e}");
    }
}

fn check_all(precision: impl Fn(RerankerBuilder) -> RerankerBuilder, suffix: &str, tolerance: f64) {
    for fixture in fixtures() {
        let Some(reranker) = build(precision(fixture.builder())) else { return };
        fixture.check(&reranker, suffix, tolerance);
    }
}

in_every_storage!(check_all, 2e-5);

#[test]
fn pairs_are_tokenized_and_truncated_as_by_transformers() {
    for fixture in fixtures() {
        let Some(reranker) = build(fixture.builder()) else { return };
        let pairs: Vec<(&str, &str)> =
            fixture.pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let tokens = reranker.tokenize(&pairs).unwrap();
        let (_, offsets) = fixture.tensor("offsets");
        for (which, name) in ["input_ids", "token_type_ids"].into_iter().enumerate() {
            let (_, expected) = fixture.tensor(name);
            for (i, (tokens, ends)) in tokens.iter().zip(offsets.windows(2)).enumerate() {
                let got: Vec<f64> = tokens[which].iter().copied().map(f64::from).collect();
                let expected = &expected[ends[0] as usize..ends[1] as usize];
                assert_eq!(got, expected, "{}: {name} of pair {i}", fixture.name);
            }
        }
    }
}

#[test]
fn scores_are_bit_identical_in_batches_of_any_size() {
    for name in ["bert", "qwen3"] {
        let fixture = one(name);
        let Some(reranker) = build(fixture.builder()) else { return };
        let all = block_on(reranker.predict(&fixture.pairs)).unwrap();
        for batch_tokens in [1, 37, 100_000] {
            let other = build(fixture.builder().batch_tokens(batch_tokens)).unwrap();
            assert_eq!(block_on(other.predict(&fixture.pairs)).unwrap().values, all.values);
        }
    }
}

#[test]
fn documents_are_ranked_by_their_scores() {
    let fixture = one("bert");
    let Some(reranker) = build(fixture.builder()) else { return };
    let documents: Vec<&str> = fixture.pairs.iter().map(|(_, b)| b.as_str()).collect();
    let query = fixture.pairs[0].0.as_str();
    let ranked = block_on(reranker.rank(query, &documents)).unwrap();
    assert!(
        ranked.is_sorted_by(|a, b| a.score > b.score || (a.score == b.score && a.index < b.index))
    );
    for found in &ranked {
        let pair = [(query, documents[found.index])];
        assert_eq!(block_on(reranker.predict(&pair)).unwrap().values, [found.score]);
    }
    assert_eq!(block_on(reranker.rank(query, &[] as &[&str])).unwrap(), []);
}

#[test]
fn a_classifier_gives_all_its_labels_and_does_not_rank() {
    let fixture = one("bert_labels");
    let Some(reranker) = build(fixture.builder()) else { return };
    assert_eq!(reranker.labels(), 3);
    match block_on(reranker.rank("a", &["b"])) {
        Err(Error::Unsupported { file, field, .. }) => {
            assert_eq!([file, field], ["config.json", "id2label"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pairs_that_are_too_long_can_be_refused() {
    let fixture = one("bert");
    let Some(reranker) = build(fixture.builder()) else { return };
    let options = RerankOptions { on_too_long: OnTooLong::Error, ..RerankOptions::default() };
    match block_on(reranker.predict_with(&fixture.pairs, &options)) {
        Err(Error::TooLong { text: 12, limit, .. }) => {
            assert_eq!(Some(limit), reranker.max_seq_length());
        }
        other => panic!("{other:?}"),
    }
    assert!(block_on(reranker.predict_with(&fixture.pairs[..12], &options)).is_ok());
}

#[test]
fn a_prompt_of_the_caller_replaces_the_default() {
    for (name, [other, spelt, default]) in
        [("bert_prompts", ["query", "find: ", "web"]), ("qwen3", ["rivers", "Find rivers", "cats"])]
    {
        let fixture = one(name);
        let Some(reranker) = build(fixture.builder()) else { return };
        let pairs = &fixture.pairs[..12];
        let scored = |options: &RerankOptions| {
            block_on(reranker.predict_with(pairs, options)).unwrap().values
        };
        let named =
            |name: &str| RerankOptions { prompt_name: Some(name.into()), ..Default::default() };
        let spelt = RerankOptions { prompt: Some(spelt.into()), ..Default::default() };
        let own = scored(&RerankOptions::default());
        assert_eq!(scored(&named(default)), own);
        assert_eq!(scored(&named(other)), scored(&spelt));
        assert_ne!(scored(&spelt), own);
        let none = RerankOptions { prompt: Some(String::new()), ..Default::default() };
        assert!(![own, scored(&spelt)].contains(&scored(&none)));
    }
}

#[test]
fn scores_after_a_lost_device_are_bit_identical() {
    let fixture = one("bert");
    let Some(reranker) = build(fixture.builder()) else { return };
    let before = block_on(reranker.predict(&fixture.pairs)).unwrap();
    block_on(reranker.lose_device());
    assert_eq!(block_on(reranker.predict(&fixture.pairs)).unwrap().values, before.values);
}
