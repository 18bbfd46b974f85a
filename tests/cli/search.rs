//! Tests `search`, `similarity`, `inspect` and `adapters`.

use serde_json::Value;

use crate::support::*;

const LINES: &str = "A cat sat on the warm tin roof.\n\n  \nsmile\tand wave\nthe same text twice\n";

#[test]
fn the_query_itself_is_found_first_and_its_text_is_on_one_line() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let long = "a very long line ".repeat(25);
    let file = write(directory.path(), "lines.txt", format!("{LINES}{long}\n"));
    let search = |query: &str, top: &str| {
        let mut command = with_model("search", [query, "--top", top, "--in"]);
        command.arg(&file);
        stdout(&succeed(command))
    };
    let found = search(&long, "1");
    let words: Vec<&str> = found.split_whitespace().collect();
    assert_eq!(words[..3], ["1", "1.0000", "6"], "{found}");
    assert!(found.trim_end().ends_with(long.trim_end()), "{found}");
    assert_eq!(found.lines().count(), 1);
    // Blank lines are skipped. A tab in a text does not shift the columns of the output.
    let all = search("the same text twice", "9");
    assert_eq!(all.lines().count(), 4, "{all}");
    assert!(all.contains("smile and wave"), "{all}");
    let scores: Vec<f64> =
        all.lines().map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{all}");
}

#[test]
fn five_lines_are_shown_and_ties_stay_in_file_order() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "lines.txt", "a\n".repeat(70));
    let mut command = with_model("search", ["a", "--in"]);
    command.arg(file);
    let found = stdout(&succeed(command));
    let lines: Vec<&str> =
        found.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "5"]);
}

#[test]
fn queries_and_documents_get_their_own_prompts() {
    if !have_adapter() {
        return;
    }
    let (texts, queries) = reference("bert_prompts", "embeddings.query");
    let (_, documents) = reference("bert_prompts", "embeddings.document");
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "lines.jsonl", jsonl(&texts[5..6]));
    let mut command = vectile();
    command.args(["search", &texts[5], "--model"]).arg(model("bert_prompts"));
    command.arg("--in").arg(file);
    let found = stdout(&succeed(command));
    let score: f64 = found.split_whitespace().nth(1).unwrap().parse().unwrap();
    let query: Vec<f32> = queries[5].iter().map(|v| *v as f32).collect();
    assert!((score - cosine(&query, &documents[5])).abs() < 1e-4, "{found}");
}

#[test]
fn similarity_of_two_texts_is_a_number() {
    if !have_adapter() {
        return;
    }
    let (texts, rows) = reference("bert_mean_norm", "embeddings");
    let output = succeed(with_model("similarity", [texts[5].as_str(), texts[8].as_str()]));
    let score: f64 = stdout(&output).trim_end().parse().unwrap();
    let row: Vec<f32> = rows[5].iter().map(|v| *v as f32).collect();
    assert!((score - cosine(&row, &rows[8])).abs() < 1e-4, "{score}");
    let same = stdout(&succeed(with_model("similarity", ["a", "a"])));
    assert_eq!(same, "1.0000\n");
}

#[test]
fn similarity_to_a_file_keeps_its_order_or_shows_the_best() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "lines.txt", LINES);
    let against = |args: &[&str]| {
        let mut command = with_model("similarity", ["the same text twice", "--in"]);
        command.arg(&file).args(args);
        stdout(&succeed(command))
    };
    let all = against(&[]);
    let lines: Vec<&str> =
        all.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "5"], "{all}");
    assert!(all.lines().last().unwrap().contains("1.0000"), "{all}");
    let top = against(&["--top", "1"]);
    assert_eq!(top.split_whitespace().take(3).collect::<Vec<_>>(), ["1", "1.0000", "5"]);
}

/// Copies a fixture into a directory, and sets another `similarity_fn_name`.
fn model_with(similarity: &str, directory: &std::path::Path) {
    let from = model("bert_max");
    for name in ["", "1_Pooling"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
        for entry in std::fs::read_dir(from.join(name)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), directory.join(name).join(entry.file_name())).unwrap();
            }
        }
    }
    let path = directory.join("config_sentence_transformers.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["similarity_fn_name"] = similarity.into();
    std::fs::write(path, config.to_string()).unwrap();
}

/// See deepset-ai/haystack#3436 and lancedb/lancedb#207. Models that were trained for the dot product need it, and most
/// of them do not name it.
#[test]
fn lines_are_ranked_by_the_models_similarity_or_the_one_that_is_asked_for() {
    if !have_adapter() {
        return;
    }
    let (texts, rows) = reference("bert_max", "embeddings");
    let directory = tempfile::tempdir().unwrap();
    let lines = write(directory.path(), "lines.jsonl", jsonl(&texts[2..]));
    let dot_model = directory.path().join("dot");
    model_with("dot", &dot_model);
    let found = |options: &[&str]| -> Vec<(usize, f64)> {
        let mut command = vectile();
        command.args(["search", &texts[3], "--top", "4", "--quiet", "--model"]).arg(&dot_model);
        command.arg("--in").arg(&lines).args(options);
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[2].parse::<usize>().unwrap() + 1, words[1].parse().unwrap())
        };
        stdout(&succeed(command)).lines().map(line).collect()
    };
    let ranked = |score: fn(&[f64], &[f64]) -> f64| -> Vec<(usize, f64)> {
        let mut all: Vec<(usize, f64)> =
            (2..rows.len()).map(|i| (i, score(&rows[3], &rows[i]))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(4);
        all
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let manhattan =
        |a: &[f64], b: &[f64]| -a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
    for (options, expected) in [
        (&[][..], ranked(dot)),
        (&["--similarity", "cosine"], ranked(cosine)),
        (&["--similarity", "manhattan"], ranked(manhattan)),
    ] {
        let found = found(options);
        let indices = |of: &[(usize, f64)]| of.iter().map(|(i, _)| *i).collect::<Vec<_>>();
        assert_eq!(indices(&found), indices(&expected), "{options:?}");
        for ((_, found), (_, expected)) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-3, "{options:?}: {found} {expected}");
        }
    }
    let order = |of: Vec<(usize, f64)>| of.into_iter().map(|(i, _)| i).collect::<Vec<_>>();
    assert_ne!(order(ranked(dot)), order(ranked(cosine)));
    let mut command = vectile();
    command.args(["similarity", &texts[3], &texts[5], "--quiet", "--model"]).arg(&dot_model);
    let score: f64 = stdout(&succeed(command)).trim().parse().unwrap();
    assert!((score - dot(&rows[3], &rows[5])).abs() < 1e-3, "{score}");
    let mut command = vectile();
    command.args(["search", "a", "--similarity", "maxsim", "--model"]).arg(&dot_model);
    command.arg("--in").arg(&lines);
    refuse_arguments(command, &["--similarity", "maxsim", "euclidean"]);
}

#[test]
fn inspect_shows_the_precision_as_text_and_as_json() {
    if !have_adapter() {
        return;
    }
    let text = stdout(&succeed(with_model("inspect", [""; 0])));
    assert!(text.contains("because"), "{text}");
    let json = stdout(&succeed(with_model("inspect", ["--json", "--quiet"])));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["precision"]["weights"], "f32");
}

#[test]
fn adapters_are_listed_as_text_and_as_json() {
    if !have_adapter() {
        return;
    }
    let list = |args: &[&str]| {
        let mut command = vectile();
        command.arg("adapters").args(args);
        stdout(&succeed(command))
    };
    let json: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let text = list(&[]);
    for (i, adapter) in json.as_array().unwrap().iter().enumerate() {
        assert_eq!(adapter["index"], i);
        let name = adapter["name"].as_str().unwrap();
        assert!(text.contains(&format!("{i}: {name}\n")), "{text}");
        assert!(adapter["shader_f16_verdict"].is_string());
        assert!(adapter["max_binding_bytes"].as_u64().unwrap() > 0);
    }
    assert!(text.contains("SHADER_F16") && text.contains("binding"), "{text}");
}

#[test]
fn an_adapter_is_chosen_by_index_or_name_and_a_wrong_one_refused() {
    if !have_adapter() {
        return;
    }
    succeed(with_model("similarity", ["a", "b", "--adapter", "0"]));
    refuse(with_model("embed", ["a", "--adapter", "99"]), &["99", "the adapters are 0: "]);
    refuse(with_model("embed", ["a", "--adapter", "Voodoo"]), &["Voodoo", "the adapters are 0: "]);
}

#[test]
fn disabling_f16_is_packed_f16_on_any_adapter() {
    if !have_adapter() {
        return;
    }
    let half = ["--dtype", "float16", "--disable", "shader-f16"];
    let run = |more: &[&str]| {
        let mut command = with_model("similarity", ["a", "b"]);
        command.args(half).args(more);
        command
    };
    let said = stderr(&succeed(run(&["--half-fallback", "packed"])));
    assert!(said.contains("precision: packed f16 weights"), "{said}");
    refuse(run(&["--half-fallback", "error"]), &["float16", "disabled"]);
}
