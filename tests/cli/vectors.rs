//! Tests `search` over vectors that were computed before.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

const TEXTS: [&str; 6] =
    ["A cat sat on the roof.", "the dog ran", "naïve café", "x y z", "the dog ran", "It rains."];

/// Embeds the texts as documents into a file.
fn embedded(directory: &Path, name: &str, args: &[&str]) -> PathBuf {
    let texts = TEXTS.map(str::to_owned);
    let input = write(directory, "texts.jsonl", jsonl(&texts));
    let output = directory.join(name);
    let mut command = with_model("embed", ["--as", "document", "--quiet"]);
    command.args(args).arg("--input").arg(input).arg("--output").arg(&output);
    succeed(command);
    output
}

fn search(queries: &[&str], file: &Path, args: &[&str]) -> Command {
    let mut command = with_model("search", queries);
    command.arg("--in").arg(file).args(args);
    command
}

/// Returns the objects that `--json` prints.
fn found(command: Command) -> Vec<Value> {
    let output = stdout(&succeed(command));
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the query, the line and the text of each object.
fn places(found: &[Value]) -> Vec<(u64, u64, String)> {
    let place = |hit: &Value| {
        let number = |name: &str| hit[name].as_u64().unwrap();
        (number("query"), number("line"), hit["text"].as_str().unwrap().to_owned())
    };
    found.iter().map(place).collect()
}

/// Returns a NumPy file of rows.
fn npy_of(dtype: &str, order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values);
    bytes
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn vectors_of_every_format_are_searched_like_their_texts() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let queries = ["the dog ran", "a cat"];
    let lines = write(directory.path(), "lines.txt", TEXTS.join("\n"));
    let args = ["--json", "--top-k", "4"];
    let expected = found(search(&queries, &lines, &args));
    assert_eq!(expected.len(), 8);
    // Equal texts have equal vectors, and the lower line comes first.
    let first = places(&expected);
    assert_eq!((first[0].1, first[1].1), (2, 5), "{first:?}");
    let mut files = vec!["vectors.jsonl", "vectors.csv", "vectors.tsv", "vectors.jsonl.gz"];
    if cfg!(feature = "bulk") {
        files.extend(["vectors.parquet", "vectors.arrow"]);
    }
    for precision in ["float32", "float16"] {
        for name in &files {
            let file = embedded(directory.path(), name, &["--precision", precision]);
            let got = found(search(&queries, &file, &args));
            let again = found(search(&queries, &file, &[&args[..], &["--embed-texts"]].concat()));
            assert_eq!(places(&got), places(&again), "{name} {precision}");
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got["text"], expected["text"], "{name} {precision}");
                let score = |hit: &Value| hit["score"].as_f64().unwrap();
                assert!((score(got) - score(expected)).abs() < 1e-3, "{name}: {got} {expected}");
            }
            std::fs::remove_file(file).unwrap();
        }
        let file = embedded(directory.path(), "vectors.npy", &["--precision", precision]);
        let got = found(search(&queries, &file, &args));
        let lines_of = |found: &[Value]| -> Vec<Value> {
            found.iter().map(|hit| hit["line"].clone()).collect()
        };
        assert_eq!(lines_of(&got), lines_of(&expected), "{precision}");
        assert_eq!(got[0]["text"], "");
        let mut command = search(&queries, &file, &args);
        command.arg("--texts").arg(&lines);
        assert_eq!(places(&found(command)), first, "{precision}");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_table_is_printed_for_each_query_and_the_rows_are_counted() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = embedded(directory.path(), "vectors.jsonl", &[]);
    let queries = write(directory.path(), "queries.txt", "the dog ran\n\nIt rains.\n");
    let mut command = search(&[], &file, &["--top", "1"]);
    command.arg("--queries").arg(queries);
    let output = succeed(command);
    let lines = stdout(&output);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], "query: the dog ran");
    assert!(lines[1].ends_with("1.0000       2  the dog ran"), "{lines:?}");
    assert_eq!(lines[2], "query: It rains.");
    assert!(lines[3].ends_with("1.0000       6  It rains."), "{lines:?}");
    let said = stderr(&output);
    assert!(said.contains("rows: 6 read, 2 written, 0 null"), "{said}");
    let quiet = succeed(search(&["a"], &file, &["--quiet"]));
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn the_similarity_is_the_models_or_the_one_that_is_asked_for() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let dim = 48;
    // The rows are the query's own vector, the same vector at twice the length, and its negative.
    let query = rows_of(&succeed(with_model("embed", ["a", "--as", "query"])).stdout).remove(0);
    assert_eq!(query.len(), dim);
    let scaled = |by: f32| query.iter().map(|value| value * by).collect::<Vec<f32>>();
    let rows = [scaled(-1.0), scaled(2.0), scaled(1.0)].concat();
    let file = write(directory.path(), "v.npy", npy_of("<f4", "False", "3, 48", &bytes_of(&rows)));
    let ranked = |function: &str| -> Vec<(u64, f64)> {
        let hits = found(search(&["a"], &file, &["--json", "--similarity", function]));
        hits.iter().map(|h| (h["line"].as_u64().unwrap(), h["score"].as_f64().unwrap())).collect()
    };
    for (function, expected) in [
        ("cosine", [(2, 1.0), (3, 1.0), (1, -1.0)]),
        ("dot", [(2, 2.0), (3, 1.0), (1, -1.0)]),
        ("euclidean", [(3, 0.0), (2, -1.0), (1, -2.0)]),
    ] {
        for ((line, score), (row, value)) in ranked(function).into_iter().zip(expected) {
            assert!(line == row && (score - value).abs() < 1e-4, "{function}: {line} {score}");
        }
    }
    assert_eq!(ranked("manhattan").iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 2, 1]);
}

/// Equal rows keep their order, and the hits of a larger `--top` begin with those of a smaller one. Neither holds in
/// facebookresearch/faiss#1201, #813 and #1985 and castorini/pyserini#1255.
#[test]
fn equal_rows_and_rows_of_zeros_rank_the_same_for_any_number_of_hits() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let query = rows_of(&succeed(with_model("embed", ["a", "--as", "query"])).stdout).remove(0);
    let scaled = |by: f32| query.iter().map(|value| value * by).collect::<Vec<f32>>();
    // A row of zeros has no direction. Such a row must not come first: see spiceai/spiceai#11621.
    let rows: Vec<f32> = [0.0, -1.0, 1.0, 0.0, 1.0, 1.0].into_iter().flat_map(scaled).collect();
    let file = write(directory.path(), "v.npy", npy_of("<f4", "False", "6, 48", &bytes_of(&rows)));
    let ranked = |top: &str| -> Vec<(u64, f64)> {
        let hits = found(search(&["a"], &file, &["--json", "--top", top]));
        hits.iter().map(|h| (h["line"].as_u64().unwrap(), h["score"].as_f64().unwrap())).collect()
    };
    let all = ranked("9");
    assert_eq!(all.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 5, 6, 1, 4, 2]);
    assert_eq!((all[3].1, all[4].1), (0.0, 0.0));
    for top in 1..6 {
        assert_eq!(ranked(&top.to_string()), all[..top]);
    }
}

#[test]
fn vectors_that_are_null_are_left_out_and_texts_can_be_embedded_again() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = embedded(directory.path(), "vectors.jsonl", &[]);
    let mut lines: Vec<Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[1]["embedding"] = Value::Null;
    let text: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
    let file = write(directory.path(), "nulls.jsonl", text);
    let output = succeed(search(&["the dog ran"], &file, &["--top", "9"]));
    let said = stderr(&output);
    assert!(said.contains("rows: 6 read, 5 written, 1 null"), "{said}");
    // Line numbers count the blank lines, and the first of the equal rows is null.
    let first = stdout(&output).lines().next().unwrap().to_owned();
    assert!(first.contains(" 9  the dog ran"), "{first}");
    let again = found(search(&["the dog ran"], &file, &["--embed-texts", "--json"]));
    assert_eq!(again[0]["line"], 3);
}

#[test]
fn arrays_that_cannot_be_searched_are_refused_with_a_remedy() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let zeros = vec![0u8; 3 * 48 * 8];
    let mut nan = vec![0.5f32; 3 * 48];
    nan[60] = f32::NAN;
    let f4 = |rows: usize, width: usize| zeros[..rows * width * 4].to_vec();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        // The vectors have another width: see openrecall/openrecall#99 and mick-gsk/drift#429.
        (
            "width",
            npy_of("<f4", "False", "2, 16", &f4(2, 16)),
            &["16 values", "48", "--truncate-dim"],
        ),
        // See langchain-ai/langchain#31822.
        ("nan", npy_of("<f4", "False", "3, 48", &bytes_of(&nan)), &["row 2: holds NaN", "finite"]),
        ("int8", npy_of("|i1", "False", "3, 48", &zeros[..144]), &["|i1", "float32", "astype"]),
        ("big", npy_of(">f4", "False", "3, 48", &f4(3, 48)), &[">f4", "astype"]),
        ("object", npy_of("|O", "False", "3, 48", &zeros[..144]), &["|O", "numpy.save"]),
        ("one", npy_of("<f4", "False", "144,", &f4(3, 48)), &["shape (144)", "reshape"]),
        // Such an array gave wrong neighbours in nmslib/nmslib#230.
        ("columns", npy_of("<f4", "True", "3, 48", &f4(3, 48)), &["ascontiguousarray"]),
        (
            "short",
            npy_of("<f4", "False", "3, 48", &f4(2, 48)),
            &["incomplete", "3 rows", "holds 2"],
        ),
        ("long", npy_of("<f4", "False", "2, 48", &f4(3, 48)), &["192 bytes after its 2 rows"]),
        ("huge", npy_of("<f8", "False", "18446744073709551615, 48", b""), &["incomplete"]),
        ("empty", Vec::new(), &["is not a NumPy file", "complete"]),
        ("zip", b"PK\x03\x04 a zip file".to_vec(), &["is not a NumPy file"]),
        (
            "header",
            npy_of("<f4", "False", "3, 48", b"")[..40].to_vec(),
            &["ends within its header"],
        ),
    ];
    for (name, bytes, words) in cases {
        let file = write(directory.path(), &format!("{name}.npy"), bytes);
        refuse(search(&["a"], &file, &[]), &[words, &[&format!("{name}.npy")]].concat());
    }
    // NumPy's default is float64: see damo-cv/Ada-NETS#7.
    let double: Vec<u8> = (0..2 * 48).flat_map(|at| f64::from(at % 7).to_le_bytes()).collect();
    let file = write(directory.path(), "f8.npy", npy_of("<f8", "False", "2, 48", &double));
    assert_eq!(found(search(&["a"], &file, &["--json"])).len(), 2);
    let none = write(directory.path(), "none.npy", npy_of("<f4", "False", "0, 48", b""));
    assert_eq!(found(search(&["a"], &none, &["--json"])).len(), 0);
    // The texts are in a file beside the array.
    let file = write(directory.path(), "v.npy", npy_of("<f4", "False", "2, 48", &f4(2, 48)));
    let lines = write(directory.path(), "lines.txt", "a\nb\nc\n");
    let texts = |lines: &Path| {
        let mut command = search(&["a"], &file, &[]);
        command.arg("--texts").arg(lines);
        command
    };
    refuse(texts(&lines), &["--texts", "lines.txt has 3 texts", "2 vectors"]);
    refuse(search(&["a"], &file, &["--embedding-column", "x"]), &["--embedding-column", "NumPy"]);
    let mut command = search(&["a"], &lines, &[]);
    command.arg("--texts").arg(&lines);
    refuse(command, &["--texts", "holds no vectors"]);
    refuse(search(&[], Path::new("-"), &["--queries", "-"]), &["stdin", "only one of"]);
}

#[test]
fn objects_and_tables_without_right_vectors_are_refused_by_line() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let line = |vector: Value| json!({ "text": "a", "embedding": vector }).to_string() + "\n";
    let good = line(json!(vec![0.5; 48]));
    let cases: Vec<(String, &[&str], &[&str])> = vec![
        (format!("{good}{}", line(json!([1, 2]))), &[], &["line 2: has 2 values", "48"]),
        (format!("{good}{{\"text\":\"a\"}}\n"), &[], &["line 2: has no field `embedding`"]),
        (format!("{good}{}", good.replacen("0.5", "NaN", 1)), &[], &["line 2", "NaN", "finite"]),
        (format!("{good}{}", good.replacen("0.5", "1e300", 1)), &[], &["line 2"]),
        (
            format!("{good}{}", good.replacen("0.5", "1e30", 1)),
            &[],
            &["line 2: is too long", "scale"],
        ),
        (format!("{good}{}", line(json!([[0.5]]))), &[], &["line 2", "array of arrays"]),
        (format!("{good}{}", line(json!(["x"]))), &[], &["line 2", "not numbers"]),
        (format!("{good}{{\"embedding\":[0.5"), &[], &["line 2", "column"]),
        (good.clone(), &["--embedding-column", "v"], &["--embedding-column", "no field `v`"]),
    ];
    for (at, (text, args, words)) in cases.into_iter().enumerate() {
        let file = write(directory.path(), &format!("{at}.jsonl"), text);
        refuse(search(&["a"], &file, args), words);
    }
    let table = write(directory.path(), "t.csv", "body,n\na,1\n");
    refuse(search(&["a"], &table, &[]), &["neither a column `embedding`", "`body`", "--field"]);
    refuse(
        search(&["a"], &table, &["--embedding-column", "v"]),
        &["no column `v`", "`body`", "--embedding-column"],
    );
    let txt = write(directory.path(), "t.txt", "a\n");
    refuse(
        search(&["a"], &txt, &["--embedding-column", "v"]),
        &["--embedding-column", "no columns"],
    );
}

#[cfg(feature = "bulk")]
#[test]
fn columns_without_right_vectors_are_refused_by_row() {
    use std::sync::Arc;

    use arrow_array::builder::{Float32Builder, ListBuilder};
    use arrow_array::types::{Float64Type, Int8Type};
    use arrow_array::{ArrayRef, Int8Array, RecordBatch, StringArray};
    use arrow_array::{FixedSizeListArray, ListArray};
    use parquet::arrow::ArrowWriter;

    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let parquet = |name: &str, columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(n, c)| (n, c, true)),
        );
        let batch = batch.unwrap();
        let path = directory.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let double = |value: f64| Some(vec![Some(value); 48]);
    // pandas writes lists of Python's floats as lists of float64.
    let lists = vec![double(1.0), None, double(2.0)];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists));
    let file =
        parquet("double.parquet", vec![("text", texts.clone()), ("embedding", lists.clone())]);
    let output = succeed(search(&["a"], &file, &["--json"]));
    assert!(stderr(&output).contains("rows: 3 read, 2 written, 1 null"), "{}", stderr(&output));
    // The column has another name, and there are no texts.
    let file = parquet("named.parquet", vec![("id", texts.clone()), ("v", lists)]);
    refuse(search(&["a"], &file, &[]), &["neither a column `embedding`", "`id`, `v`"]);
    let output = succeed(search(&["a"], &file, &["--embedding-column", "v", "--json"]));
    assert!(stderr(&output).contains("show only row numbers"), "{}", stderr(&output));
    let column = ["--embedding-column", "v", "--field", "id", "--json"];
    assert_eq!(found(search(&["a"], &file, &column))[0]["text"], "a");
    refuse(
        search(&["a"], &file, &["--embedding-column", "v", "--field", "x"]),
        &["`x`", "--field"],
    );
    let lines = write(directory.path(), "lines.txt", "one\ntwo\nthree\n");
    let mut command = search(&["a"], &file, &["--embedding-column", "v", "--json"]);
    command.arg("--texts").arg(lines);
    let of_texts: Vec<Value> = found(command).iter().map(|hit| hit["text"].clone()).collect();
    assert!(of_texts.contains(&json!("one")) && of_texts.contains(&json!("three")), "{of_texts:?}");

    let steps = (0..3).map(|_| Some(vec![Some(1i8); 48]));
    let steps: ArrayRef =
        Arc::new(FixedSizeListArray::from_iter_primitive::<Int8Type, _, _>(steps, 48));
    let file = parquet("int8.parquet", vec![("text", texts.clone()), ("embedding", steps)]);
    refuse(search(&["a"], &file, &[]), &["int8.parquet", "`embedding`", "Int8", "--embed-texts"]);
    assert_eq!(found(search(&["a"], &file, &["--embed-texts", "--json"])).len(), 3);
    let number: ArrayRef = Arc::new(Int8Array::from(vec![1, 2, 3]));
    let file = parquet("number.parquet", vec![("text", texts.clone()), ("embedding", number)]);
    refuse(search(&["a"], &file, &[]), &["holds Int8", "lists of float32"]);

    let rows = |change: fn(usize, usize) -> Option<f32>, widths: [usize; 3]| -> ArrayRef {
        let mut lists = ListBuilder::new(Float32Builder::new());
        for (row, width) in widths.into_iter().enumerate() {
            (0..width).for_each(|at| lists.values().append_option(change(row, at)));
            lists.append(true);
        }
        Arc::new(lists.finish())
    };
    let bad: [(&str, ArrayRef, &[&str]); 3] = [
        ("width", rows(|_, _| Some(0.5), [48, 48, 47]), &["row 3: has 47 values"]),
        ("null", rows(|row, at| (row + at != 1).then_some(0.5), [48; 3]), &["row 1", "null value"]),
        (
            "nan",
            rows(|row, at| Some(if row == 2 && at == 9 { f32::NAN } else { 0.5 }), [48; 3]),
            &["row 3: holds NaN"],
        ),
    ];
    for (name, column, words) in bad {
        let file = parquet(&format!("{name}.parquet"), vec![("embedding", column)]);
        refuse(search(&["a"], &file, &[]), words);
    }
    // The end of the file is missing.
    let whole = std::fs::read(directory.path().join("width.parquet")).unwrap();
    let file = write(directory.path(), "cut.parquet", &whole[..whole.len() / 2]);
    refuse(search(&["a"], &file, &[]), &["cut.parquet", "complete"]);
}
