use serde_json::Value;
use tempfile::tempdir;

use crate::support::*;

/// Returns the report of a bench of the tiny fixture. The bench must succeed.
fn report(args: &[&str]) -> Value {
    let mut command = vectile();
    command.arg("bench").arg(model("bert_mean_norm"));
    command.args(["--quick", "--rounds", "2", "--quiet", "--json", "-"]).args(args);
    serde_json::from_slice(&succeed(command).stdout).unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    let precisions = report["adapters"][0]["precisions"].as_array().unwrap();
    precisions.iter().map(|p| p["name"].as_str().unwrap()).collect()
}

/// Whether the adapter of the tests has f16 in shaders, as `adapters --json` reports.
fn shader_f16() -> bool {
    let mut command = vectile();
    command.args(["adapters", "--json"]);
    let list: Value = serde_json::from_slice(&succeed(command).stdout).unwrap();
    let mut list = list.as_array().unwrap().iter();
    // The CPU runs no shaders.
    list.find(|adapter| adapter["backend"] != "Native").unwrap()["shader_f16"] == true
}

#[test]
fn every_precision_is_measured_and_compared_with_f32() {
    if !have_adapter() {
        return;
    }
    let report = report(&["--batch-tokens", "64", "--lengths", "5,33", "--label", "a test"]);
    assert_eq!(report["schema"], "vectile-bench/1");
    assert_eq!(report["label"], "a test");
    assert_eq!(report["vectile"], env!("CARGO_PKG_VERSION"));
    let found = names(&report);
    assert_eq!(found.contains(&"f16"), shader_f16());
    assert_eq!(found[0], "f32");
    assert!(found.contains(&"packed_f16") && found.contains(&"packed_bf16"), "{found:?}");
    for precision in report["adapters"][0]["precisions"].as_array().unwrap() {
        let name = precision["name"].as_str().unwrap();
        let accuracy = &precision["accuracy"];
        let cosine = accuracy["min_cosine"].as_f64().unwrap();
        let error = accuracy["max_abs"].as_f64().unwrap();
        match name {
            "f32" => assert_eq!(error, 0.0),
            // The weights are rounded, so the error is small but not zero.
            _ => assert!(error > 0.0 && cosine > 0.99 && cosine < 1.0, "{name}: {accuracy}"),
        }
        let weights = precision["weight_bytes"].as_u64().unwrap();
        let f32_weights = report["adapters"][0]["precisions"][0]["weight_bytes"].as_u64().unwrap();
        assert_eq!(weights < f32_weights, name != "f32", "{name}");
        let cells = precision["cells"].as_array().unwrap();
        let sizes: Vec<_> = cells.iter().map(|c| (&c["batch_tokens"], &c["text_tokens"])).collect();
        assert_eq!(sizes, [(&64.into(), &5.into()), (&64.into(), &33.into())]);
        for cell in cells {
            let rounds = cell["rounds_s"].as_array().unwrap();
            assert!(rounds.len() == 2 && rounds.iter().all(|s| s.as_f64().unwrap() > 0.0));
            let texts = cell["texts"].as_u64().unwrap();
            let longest = cell["text_tokens"].as_u64().unwrap();
            let tokens = cell["tokens"].as_u64().unwrap();
            assert!(tokens <= texts * longest && tokens * 2 > texts * longest, "{cell}");
        }
        let host = &precision["host"];
        let parts = ["pack", "upload", "encode", "submit", "wait", "read_back"]
            .map(|part| host[format!("{part}_ms")].as_f64().unwrap());
        assert!(parts.iter().sum::<f64>() <= host["total_ms"].as_f64().unwrap(), "{host}");
        assert!(precision["latency"]["p50_ms"].as_f64() <= precision["latency"]["p95_ms"].as_f64());
        assert_eq!(precision["precision"]["weights"], precision["weights"]);
    }
}

#[test]
fn kernels_account_for_the_time_of_the_gpu() {
    if !have_adapter() {
        return;
    }
    let report = report(&["--precisions", "packed_f16", "--kernels"]);
    let adapter = &report["adapters"][0];
    if adapter["timestamps"] == false {
        eprintln!("the adapter has no timestamps: the test is passed over");
        return;
    }
    assert_eq!(names(&report), ["f32", "packed_f16"]);
    for precision in adapter["precisions"].as_array().unwrap() {
        let gpu = &precision["gpu"];
        let kernels = gpu["kernels"].as_array().unwrap();
        let sum: f64 = kernels.iter().map(|kernel| kernel["ms"].as_f64().unwrap()).sum();
        let accounted = gpu["accounted"].as_f64().unwrap();
        let total = gpu["total_ms"].as_f64().unwrap();
        assert!((sum / total - accounted).abs() < 1e-3, "{gpu}");
        assert!(accounted > 0.0 && accounted <= 1.0 + 1e-9, "{gpu}");
        assert!(kernels.iter().any(|k| k["name"].as_str().unwrap().starts_with("matmul")));
        assert!(gpu["steps"].as_array().unwrap().iter().any(|step| step["name"] == "qkv"));
    }
    let sweep = adapter["kernel_sweep"].as_array().unwrap();
    for (kernel, used) in [("matmul_tile", "gpu"), ("matmul_lane", "software")] {
        let cases: Vec<&Value> = sweep.iter().filter(|case| case["kernel"] == kernel).collect();
        assert!(!cases.is_empty(), "{kernel}");
        assert!(cases.iter().all(|c| c["variant"].as_str().unwrap().starts_with(used)), "{kernel}");
        assert!(cases.iter().all(|c| c["gflops"].as_f64().unwrap() > 0.0), "{kernel}");
        for case in cases.iter().filter(|case| case["step"] == "up") {
            assert_eq!(case["widths"], serde_json::json!([48, 96]));
        }
    }
}

#[test]
fn a_precision_that_would_fall_back_is_refused_and_not_timed() {
    if !have_adapter() {
        return;
    }
    let report =
        report(&["--disable", "shader-f16,timestamp-query", "--precisions", "f16,f32/f16"]);
    let adapter = &report["adapters"][0];
    assert_eq!(names(&report), ["f32"]);
    let refused = adapter["refused"].as_array().unwrap();
    let reasons = ["SHADER_F16 was disabled", "would run with f32 weights, packed f16 activations"];
    assert_eq!(refused.len(), reasons.len());
    for (refused, reason) in refused.iter().zip(reasons) {
        assert!(refused["reason"].as_str().unwrap().contains(reason), "{refused}");
    }
    assert_eq!(adapter["timestamps"], false);
    assert_eq!(adapter["precisions"][0]["gpu"], Value::Null);
    assert_eq!(adapter["disabled"], serde_json::json!(["shader-f16", "timestamp-query"]));
}

#[test]
fn activations_out_of_range_are_refused_with_the_text() {
    if !have_adapter() {
        return;
    }
    let (texts, _) = reference("bert_overflow", "embeddings");
    let directory = tempdir().unwrap();
    let one_line = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts: Vec<String> = texts.iter().map(one_line).collect();
    let file = write(directory.path(), "texts.txt", texts.join("\n"));
    let mut command = vectile();
    command.arg("bench").arg(model("bert_overflow")).arg("--texts").arg(file);
    command.args(["--quick", "--rounds", "1", "--quiet", "--json", "-"]);
    command.args(["--precisions", "packed_f16/packed_f16,packed_f16"]);
    let report: Value = serde_json::from_slice(&succeed(command).stdout).unwrap();
    assert_eq!(names(&report), ["f32", "packed_f16"]);
    let refused = &report["adapters"][0]["refused"][0];
    assert_eq!(refused["precision"], "packed_f16/packed_f16");
    assert!(refused["reason"].as_str().unwrap().contains("range"), "{refused}");
}

#[test]
fn scored_pairs_give_spearmans_correlation_in_every_precision() {
    if !have_adapter() {
        return;
    }
    let directory = tempdir().unwrap();
    let pairs = "first,second,score\n\
                 the water is warm,the water is warm,5\n\
                 \"bread, butter\",\"bread, butter and the moon\",3.5\n\
                 a cat sat,light of the earth,0.5\n\
                 one two three,zzz qqq,0\n";
    let file = write(directory.path(), "pairs.csv", pairs);
    let report = report(&["--pairs", file.to_str().unwrap(), "--precisions", "packed_f16"]);
    assert_eq!(report["settings"]["pairs"], serde_json::json!(["pairs.csv", 4]));
    for precision in report["adapters"][0]["precisions"].as_array().unwrap() {
        let rho = precision["accuracy"]["spearman"].as_f64().unwrap();
        // The two equal texts are the most similar ones. The model is random, so the order of the others is random
        // too.
        assert!((-100.0..=100.0).contains(&rho) && rho > -40.0, "{rho}");
    }
}

#[test]
fn the_table_agrees_with_the_report() {
    if !have_adapter() {
        return;
    }
    let mut command = vectile();
    command.arg("bench").arg(model("bert_mean_norm")).args(["--quick", "--rounds", "1", "--quiet"]);
    command.args(["--precisions", "packed_bf16", "--disable", "timestamp-query"]);
    let directory = tempdir().unwrap();
    let json = directory.path().join("report.json");
    command.arg("--json").arg(&json);
    let text = stdout(&succeed(command));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(text.contains("packed_bf16") && text.contains("no timestamps"), "{text}");
    for precision in report["adapters"][0]["precisions"].as_array().unwrap() {
        let p50 = format!("{:.2}", precision["latency"]["p50_ms"].as_f64().unwrap());
        assert!(text.contains(&p50), "no {p50} in {text}");
        let rate = format!("{:.0}", precision["cells"][0]["tokens_per_s"].as_f64().unwrap());
        assert!(text.contains(&rate), "no {rate} in {text}");
    }
}

#[test]
fn unusable_inputs_are_refused_before_the_bench_begins() {
    let directory = tempdir().unwrap();
    let bench = |args: &[&str]| {
        let mut command = vectile();
        command.arg("bench").arg(model("bert_mean_norm")).args(args);
        command
    };
    let file = |name: &str, content: &str| {
        write(directory.path(), name, content).to_str().unwrap().to_owned()
    };
    let two = file("two.csv", "a,b\nc,d\n");
    refuse(bench(&["--pairs", &two]), &["two.csv", "line 1", "2 fields"]);
    let words = file("words.csv", "a,b,1\nc,d,much\n");
    refuse(bench(&["--pairs", &words]), &["words.csv", "line 2", "`much`"]);
    let one = file("one.csv", "a,b,1\n");
    refuse(bench(&["--pairs", &one]), &["one.csv", "1 pairs"]);
    refuse(bench(&["--pairs", "/nowhere.csv"]), &["/nowhere.csv"]);
    let empty = file("empty.txt", "\n\n");
    refuse(bench(&["--texts", &empty]), &["empty.txt", "0 texts"]);
    refuse(bench(&["--json", "/nowhere/report.json"]), &["/nowhere/report.json"]);
    refuse_arguments(bench(&["--precisions", "f8"]), &["f8", "packed_f16"]);
    refuse_arguments(bench(&["--rounds", "0"]), &["rounds"]);
    let mut without = vectile();
    without.arg("bench");
    refuse_arguments(without, &["MODEL"]);
}

#[test]
fn reports_are_put_side_by_side() {
    if !have_adapter() {
        return;
    }
    let directory = tempdir().unwrap();
    let run = |label: &str, rounds: &str, precisions: &str| {
        let file = directory.path().join(format!("{label}.json"));
        let mut command = vectile();
        command.arg("bench").arg(model("bert_mean_norm")).args(["--quick", "--quiet"]);
        command.args(["--rounds", rounds, "--precisions", precisions, "--label", label]);
        command.args(["--lengths", "16"]).arg("--json").arg(&file);
        succeed(command);
        file
    };
    let (before, after) = (run("before", "2", "packed_f16"), run("after", "3", "packed_bf16"));
    let compare = |files: &[&std::path::Path], json: bool| {
        let mut command = vectile();
        command.args(["bench", "--compare"]).args(files);
        command.args(if json { &["--json", "-"][..] } else { &[] });
        command
    };
    let text = stdout(&succeed(compare(&[&before, &after], false)));
    for word in ["before", "after", "rounds", "tokens/s on texts of 16 tokens", "smallest cosine"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    // If only one report has a figure, the figure is not compared.
    assert!(!text.contains("packed_"), "{text}");

    // In a copy, every round is twice as fast. The difference exceeds the spread of the rounds, so it is reported.
    let mut report: Value = serde_json::from_slice(&std::fs::read(&before).unwrap()).unwrap();
    let set = |report: &mut Value, rounds: [f64; 2]| {
        for precision in report["adapters"][0]["precisions"].as_array_mut().unwrap() {
            precision["cells"][0]["rounds_s"] = serde_json::json!(rounds);
        }
    };
    set(&mut report, [1.0, 1.1]);
    let slow = write(directory.path(), "slow.json", report.to_string());
    set(&mut report, [0.5, 0.55]);
    let fast = write(directory.path(), "fast.json", report.to_string());
    let found = succeed(compare(&[&slow, &fast], true)).stdout;
    let found: Value = serde_json::from_slice(&found).unwrap();
    let rows = found["rows"].as_array().unwrap();
    let speed = rows.iter().find(|row| row["what"].as_str().unwrap().starts_with("tokens/s"));
    let faster = &speed.unwrap()["values"][1];
    assert_eq!(faster["beyond_spread"], true, "{faster}");
    assert!((faster["ratio"]["median"].as_f64().unwrap() - 2.0).abs() < 1e-9, "{faster}");
    assert!(!found["warnings"].as_array().unwrap().is_empty(), "the same run twice");

    let odd = write(directory.path(), "odd.json", "{\"schema\": \"vectile-bench/9\"}");
    refuse(compare(&[&slow, &odd], false), &["odd.json", "vectile-bench/9", "vectile-bench/1"]);
    let other = write(directory.path(), "other.json", "{}");
    refuse(compare(&[&slow, &other], false), &["other.json", "is not a report"]);
    refuse_arguments(compare(&[&slow], false), &["compare"]);
}
