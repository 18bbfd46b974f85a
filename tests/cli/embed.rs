//! Tests that `embed` returns the right vectors in the right order, for all options.

use std::io::Write;
use std::process::Stdio;

use crate::support::*;

#[test]
fn vectors_are_those_of_sentence_transformers() {
    if !have_adapter() {
        return;
    }
    let (texts, expected) = reference("bert_mean_norm", "embeddings");
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.jsonl", jsonl(&texts));
    let output = succeed(with_model("embed", ["--input".as_ref(), file.as_os_str()]));
    let rows = rows_of(&output.stdout);
    assert_eq!(rows.len(), texts.len());
    for (i, (row, expected)) in rows.iter().zip(&expected).enumerate() {
        let cosine = cosine(row, expected);
        assert!(cosine >= 0.999_999, "text {i}: {cosine}");
    }
}

#[test]
fn adapter_and_precision_are_reported() {
    if !have_adapter() {
        return;
    }
    let said = stderr(&succeed(with_model("embed", ["a"])));
    assert_eq!(said.lines().filter(|line| line.starts_with("adapter: ")).count(), 1, "{said}");
    let precision = said.lines().find(|line| line.starts_with("precision: ")).unwrap();
    assert!(precision.contains("f32 weights") && precision.contains("because"), "{precision}");
    let quiet = succeed(with_model("embed", ["a", "--quiet"]));
    assert_eq!(stderr(&quiet), "");
    assert_eq!(rows_of(&quiet.stdout).len(), 1);
}

#[test]
fn a_sample_of_vectors_is_computed_a_second_time() {
    if !have_adapter() {
        return;
    }
    let texts = ["A cat sat.", "b", "the dog ran away"];
    let plain = succeed(with_model("embed", texts));
    let mut paranoid = with_model("embed", texts);
    paranoid.arg("--paranoid=1");
    let paranoid = succeed(paranoid);
    assert_eq!(paranoid.stdout, plain.stdout);
    let said = stderr(&paranoid);
    let line = "paranoid: 3 of 3 rows were computed a second time, bit-identical";
    assert!(said.contains(line), "{said}");
    assert_eq!(said.contains("the largest distance from "), !on_cpu(), "{said}");
    assert!(!stderr(&plain).contains("paranoid"));
    refuse_arguments(with_model("embed", ["a", "--paranoid=0"]), &["--paranoid"]);
}

#[test]
fn a_software_adapter_is_reported() {
    if !have_adapter() {
        return;
    }
    let said = stderr(&succeed(with_model("embed", ["a"])));
    let software = ["llvmpipe", "SwiftShader", "WARP", "Basic Render"];
    let expected = software.iter().any(|name| said.contains(name));
    assert_eq!(said.contains("software adapter"), expected, "{said}");
}

#[test]
fn arguments_files_and_stdin_give_the_same_rows() {
    if !have_adapter() {
        return;
    }
    let texts = ["A cat sat on the warm tin roof.", "a", "the same text twice"];
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.txt", texts.join("\n"));
    let given = succeed(with_model("embed", texts));
    let read = succeed(with_model("embed", ["--input".as_ref(), file.as_os_str()]));
    assert_eq!(given.stdout, read.stdout);
    let mut child = with_model("embed", ["--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(texts.join("\n").as_bytes()).unwrap();
    let piped = child.wait_with_output().unwrap();
    assert_eq!(given.stdout, piped.stdout);
}

#[test]
fn rows_come_in_the_order_of_the_texts_and_do_not_depend_on_their_neighbours() {
    if !have_adapter() {
        return;
    }
    let (known, expected) = reference("bert_mean_norm", "embeddings");
    let texts: Vec<String> = (0..300).map(|i| known[i * 7 % known.len()].clone()).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.jsonl", jsonl(&texts));
    let mut seen = vec![None; known.len()];
    for batch in ["64", "4096"] {
        let args = ["--batch-tokens".as_ref(), batch.as_ref(), "-i".as_ref(), file.as_os_str()];
        let rows = rows_of(&succeed(with_model("embed", args)).stdout);
        assert_eq!(rows.len(), texts.len());
        for (i, row) in rows.into_iter().enumerate() {
            let which = i * 7 % known.len();
            assert!(cosine(&row, &expected[which]) > 0.999_999, "row {i}");
            // The vector of a text is bit-identical, wherever the text is and however the texts are batched.
            assert_eq!(*seen[which].get_or_insert_with(|| row.clone()), row, "row {i}");
        }
    }
}

#[test]
fn truncate_dim_keeps_the_first_values_and_normalize_scales_them() {
    if !have_adapter() {
        return;
    }
    let text = "A cat sat on the warm tin roof.";
    let rows = |args: &[&str]| rows_of(&succeed(with_model("embed", args)).stdout).remove(0);
    let (whole, cut) = (rows(&[text]), rows(&[text, "--truncate-dim", "20"]));
    assert_eq!(whole[..20], cut);
    let scaled = rows(&[text, "--truncate-dim", "20", "--normalize"]);
    assert!((scaled.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn prompts_by_name_and_as_text() {
    if !have_adapter() {
        return;
    }
    let (texts, expected) = reference("bert_prompts", "embeddings.query");
    let (_, custom) = reference("bert_prompts", "embeddings.custom");
    let embed = |args: &[&str]| {
        let mut command = vectile();
        command.args(["embed", "--model"]).arg(model("bert_prompts")).args(args);
        rows_of(&succeed(command).stdout).remove(0)
    };
    let text = texts[5].as_str();
    let query = embed(&[text, "--prompt-name", "query"]);
    assert_eq!(query, embed(&[text, "--prompt", "query: "]));
    assert!(cosine(&query, &expected[5]) > 0.999_999);
    assert!(cosine(&embed(&[text, "--prompt", "A "]), &custom[5]) > 0.999_999);
}

#[test]
fn a_prompt_that_the_model_does_not_have_is_refused() {
    if !have_adapter() {
        return;
    }
    refuse(with_model("embed", ["a", "--prompt-name", "poem"]), &["poem"]);
}

#[test]
fn cut_texts_are_counted_or_refused_with_their_line() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let long = "word ".repeat(500);
    let file = write(directory.path(), "texts.txt", format!("a\nb\n{long}\nc\n{long}\n"));
    let input = ["--input".as_ref(), file.as_os_str()];
    let output = succeed(with_model("embed", input));
    assert!(stderr(&output).contains("5 read, 5 written"), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 truncated"), "{}", stderr(&output));
    assert!(stderr(&output).contains("130"), "{}", stderr(&output));
    assert_eq!(rows_of(&output.stdout).len(), 5);
    let mut strict = with_model("embed", input);
    strict.args(["--on-too-long", "error", "--output"]).arg(directory.path().join("out.jsonl"));
    refuse(strict, &["texts.txt: line 3:", "130", "--on-too-long truncate"]);
    assert!(!directory.path().join("out.jsonl").exists());
    assert!(!directory.path().join("out.jsonl.part").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_thousand_lines_take_bounded_memory() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lines: String = (0..20_000).map(|i| format!("line {i} about nothing much\n")).collect();
    let file = write(directory.path(), "texts.txt", lines);
    let out = directory.path().join("out.npy");
    let mut command = with_model("embed", ["--input".as_ref(), file.as_os_str()]);
    command.arg("--output").arg(&out).args(["--precision", "int8", "--quiet"]);
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let about = std::fs::read_to_string(&status).unwrap_or_default();
        let line = about.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    assert!(peak > 0 && peak < 600 * 1024, "{peak} KiB");
    let (descr, shape, data) = npy(&std::fs::read(out).unwrap());
    assert_eq!((descr.as_str(), shape, data.len()), ("|i1", vec![20_000, 48], 20_000 * 48));
}

#[test]
fn queries_and_documents_get_their_prompts() {
    if !have_adapter() {
        return;
    }
    let texts = reference("bert_prompts", "embeddings.query").0;
    for role in ["query", "document"] {
        let expected = reference_rows("bert_prompts", &format!("embeddings.{role}"));
        let mut command = vectile();
        command.args(["embed", &texts[5], "--as", role, "--model"]).arg(model("bert_prompts"));
        let cosine = cosine(&rows_of(&succeed(command).stdout)[0], &expected[5]);
        assert!(cosine >= 0.999_999, "{role}: {cosine}");
    }
    refuse_arguments(with_model("embed", ["a", "--as", "answer"]), &["`query` or `document`"]);
    let both = ["a", "--as", "query", "--prompt", "b"];
    refuse_arguments(with_model("embed", both), &["cannot be used with"]);
}

#[test]
fn sparse_vectors_are_those_of_sentence_transformers() {
    if !have_adapter() {
        return;
    }
    let sparse = |name: &str, args: &[&str]| {
        let mut command = vectile();
        command.args(["embed", "--sparse", "--model"]).arg(model(name)).args(args);
        command
    };
    let expected = reference_rows("sparse/bert", "embeddings");
    let output =
        stdout(&succeed(sparse("sparse/bert", &["A cat sat on the roof.", "The dog ran."])));
    for (i, (line, expected)) in output.lines().zip(&expected[2..]).enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["index"], i);
        let indices = line["indices"].as_array().unwrap();
        let values = line["values"].as_array().unwrap();
        let active = expected.iter().filter(|value| **value > 1e-4).count();
        assert!(indices.len() >= active && indices.len() == values.len());
        for (index, value) in indices.iter().zip(values) {
            let expected = expected[index.as_u64().unwrap() as usize];
            assert!((value.as_f64().unwrap() - expected).abs() < 1e-4);
        }
    }
    assert_eq!(output.lines().count(), 2);
    refuse(sparse("bert_mean_norm", &["a"]), &["config.json", "architectures", "ForMaskedLM"]);
    refuse(sparse("sparse/bert", &["a", "--precision", "int8"]), &["--precision"]);
    refuse_arguments(sparse("sparse/bert", &["a", "--normalize"]), &["cannot be used with"]);
}

#[test]
fn token_vectors_are_those_of_sentence_transformers() {
    if !have_adapter() {
        return;
    }
    let multi = |name: &str, args: &[&str]| {
        let mut command = vectile();
        command.args(["embed", "--multi-vector", "--model"]).arg(model(name)).args(args);
        command
    };
    let name = "multi_vector/bert";
    let texts = std::fs::read(model(name).join("texts.json")).unwrap();
    let texts: Vec<String> = serde_json::from_slice(&texts).unwrap();
    for role in ["query", "document"] {
        let mut expected = reference_rows(name, &format!("{role}.vectors")).into_iter();
        let mut command = multi(name, &["--as", role]);
        command.arg("--").args(&texts);
        let output = stdout(&succeed(command));
        assert_eq!(output.lines().count(), texts.len());
        for (i, line) in output.lines().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["index"], i);
            for vector in line["embeddings"].as_array().unwrap() {
                let vector: Vec<f64> =
                    vector.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
                let expected = expected.next().unwrap();
                assert_eq!(vector.len(), expected.len());
                assert!(vector.iter().zip(expected).all(|(got, e)| (got - e).abs() < 1e-4));
            }
        }
        assert_eq!(expected.next(), None, "{role}");
    }
    let query = ["a", "--as", "query"];
    refuse(multi("bert_mean_norm", &query), &["model_type", "MultiVectorEncoder"]);
    let quantized = [&query[..], &["--precision", "int8"]].concat();
    refuse(multi(name, &quantized), &["--precision"]);
    refuse_arguments(multi(name, &["a"]), &["--as"]);
    let cut = [&query[..], &["--truncate-dim", "2"]].concat();
    refuse_arguments(multi(name, &cut), &["cannot be used with"]);
}

#[test]
fn calibration_sets_the_ranges() {
    if !have_adapter() {
        return;
    }
    let texts = ["A cat sat on the roof.", "The dog ran.", "what is f16?", "a"];
    let directory = tempfile::tempdir().unwrap();
    let array = directory.path().join("rows.npy");
    let mut command = with_model("embed", texts);
    succeed({
        command.arg("--output").arg(&array);
        command
    });
    let all = stdout(&succeed(with_model("embed", texts.iter().chain(&["--precision", "int8"]))));
    let calibrated = |file: &std::path::Path, args: &[&str]| {
        let mut command = with_model("embed", args);
        command.arg("--calibration").arg(file);
        command
    };
    // With the ranges of all rows, a row that is embedded alone is the same as among the other rows.
    let one = stdout(&succeed(calibrated(&array, &[texts[0], "--precision", "int8"])));
    assert_eq!(one.lines().next(), all.lines().next());
    refuse(calibrated(&array, &["a"]), &["--calibration", "int8"]);
    let narrow = ["a", "--precision", "uint8", "--truncate-dim", "8"];
    refuse(calibrated(&array, &narrow), &["--calibration", "shape", "8 values"]);
    let other = write(directory.path(), "rows.txt", "no array");
    refuse(calibrated(&other, &["a", "--precision", "int8"]), &["--calibration", "NumPy"]);
}

#[test]
fn a_model_beyond_max_memory_is_refused_before_it_is_loaded() {
    if !have_adapter() {
        return;
    }
    let words = ["bert_mean_norm", "needs ", "MiB", "max_memory", "0.1 MiB"];
    for verb in ["embed", "similarity", "inspect"] {
        let texts = if verb == "inspect" { vec![] } else { vec!["a", "b"] };
        let mut command = with_model(verb, texts);
        command.args(["--max-memory", "100KiB"]);
        refuse(command, &words);
    }
    let mut enough = with_model("embed", ["a"]);
    enough.args(["--max-memory", "1GiB", "--quiet"]);
    assert_eq!(stderr(&succeed(enough)), "");
    let mut unknown = with_model("embed", ["a"]);
    unknown.args(["--max-memory", "much"]);
    refuse_arguments(unknown, &["--max-memory", "much"]);
}
