//! Tests the order and the scores of the lines that `rerank` prints.

use serde_json::Value;

use crate::support::*;

fn rerank(model_name: &str, args: &[&str]) -> std::process::Command {
    let mut command = run_on_cpu(vectile());
    command.arg("rerank").arg("--model").arg(model(model_name)).args(args);
    command
}

/// Returns the query of the fixture's first pair, and the second texts of all pairs as lines.
fn lines() -> (String, Vec<String>) {
    let pairs = std::fs::read(model("rerankers/bert").join("pairs.json")).unwrap();
    let pairs: Vec<(String, String)> = serde_json::from_slice(&pairs).unwrap();
    (pairs[0].0.clone(), pairs.into_iter().map(|(_, b)| b).filter(|b| !b.is_empty()).collect())
}

#[test]
fn lines_are_ranked_with_the_scores_of_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let (query, lines) = lines();
    let file = write(directory.path(), "lines.txt", lines.join("\n") + "\n\n");
    let mut command = rerank("rerankers/bert", &[&query, "--json", "--in"]);
    command.arg(&file);
    let found = stdout(&succeed(command));
    let rows: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), lines.len());
    let scores: Vec<f64> = rows.iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let expected = reference_rows("rerankers/bert", "scores");
    for (line, expected) in expected.iter().take(2).enumerate() {
        let row = rows.iter().find(|row| row["line"] == line as u64 + 1).unwrap();
        assert_eq!(row["text"], lines[line]);
        let score = row["score"].as_f64().unwrap();
        assert!((score - expected[0]).abs() < 1e-4, "{score} where {expected:?} is expected");
    }
    assert!(rows.iter().enumerate().all(|(i, row)| row["rank"] == i as u64 + 1));

    let mut command = rerank("rerankers/bert", &[&query, "--top", "2", "--in"]);
    command.arg(&file);
    let output = succeed(command);
    let plain = stdout(&output);
    assert_eq!(plain.lines().count(), 2, "{plain}");
    assert!(plain.lines().next().unwrap().ends_with(rows[0]["text"].as_str().unwrap()), "{plain}");
    let said = stderr(&output);
    assert!(said.contains("precision: ") && said.contains("truncated (to the"), "{said}");
}

#[test]
fn token_vectors_rank_lines_by_late_interaction() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["multi_vector/bert", "multi_vector/bge_m3"] {
        let texts = std::fs::read(model(name).join("texts.json")).unwrap();
        let texts: Vec<String> = serde_json::from_slice(&texts).unwrap();
        let file = write(directory.path(), "lines.txt", texts.join("\n") + "\n");
        let mut command = rerank(name, &[&texts[3], "--multi-vector", "--json", "--in"]);
        command.arg(&file);
        let found = stdout(&succeed(command));
        let expected = &reference_rows(name, "scores")[3];
        // The first text is empty, and an empty line is not ranked.
        assert_eq!(found.lines().count(), texts.len() - 1);
        let mut last = f64::INFINITY;
        for line in found.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let score = row["score"].as_f64().unwrap();
            let expected = expected[row["line"].as_u64().unwrap() as usize - 1];
            assert!((score - expected).abs() < 1e-4, "{name}: {score} for {expected}");
            assert!(score <= last);
            last = score;
        }
    }
    let args = ["a", "--multi-vector", "--in", "Cargo.toml"];
    refuse(rerank("rerankers/bert", &args), &["model_type", "MultiVectorEncoder"]);
}

#[test]
fn models_that_do_not_rank_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "lines.txt", "a\n");
    let file = file.to_str().unwrap();
    let args = ["a", "--in", file];
    refuse(rerank("bert_mean_norm", &args), &["config.json", "architectures", "BertModel"]);
    refuse(rerank("rerankers/bert_labels", &args), &["id2label", "3 labels"]);
    let unknown = ["a", "--in", file, "--prompt-name", "nothing"];
    refuse(rerank("rerankers/bert_prompts", &unknown), &["prompt_name", "web", "query"]);
}

#[test]
fn inspect_opens_models_of_every_kind() {
    for (name, kind, said) in [
        (
            "rerankers/qwen3",
            "--rerank",
            ["LogitScore: 32 → the logits of tokens 4 and 5", "Sigmoid"],
        ),
        ("rerankers/bert_labels", "--rerank", ["Dense: 32 → 3, none, bias", "dimension    3"]),
        ("sparse/bert", "--sparse", ["Vocabulary: 32 → 4099", "log(1 + max(0, x))"]),
        (
            "multi_vector/stanford_bert",
            "--multi-vector",
            [
                "Dense: 32 → 12, none",
                "padded to 24 tokens with \"[MASK]\", to which the other tokens attend",
            ],
        ),
        (
            "multi_vector/bge_m3",
            "--multi-vector",
            ["Normalize", "without the first token's vector"],
        ),
    ] {
        let mut command = run_on_cpu(vectile());
        command.arg("inspect").arg(kind).arg("--model").arg(model(name));
        let text = stdout(&succeed(command));
        for part in said {
            assert!(text.to_lowercase().contains(&part.to_lowercase()), "{text}");
        }
    }
    let mut command = run_on_cpu(vectile());
    command.args(["inspect", "--rerank", "--sparse", "--model"]).arg(model("sparse/bert"));
    refuse_arguments(command, &["--rerank", "--sparse"]);
}
