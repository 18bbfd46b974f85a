//! Tests `embed` from files to files: carried columns, text formats, and interrupted runs.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// Makes the command `embed` with the usual fixture.
fn embed(inputs: &[&Path], output: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    for input in inputs {
        command.arg("--input").arg(input);
    }
    command.arg("--output").arg(output);
    command
}

/// Returns the vectors of texts. They are embedded in one run, from a file with one text per line.
fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.txt", texts.join("\n") + "\n");
    rows_of(&succeed(with_model_on_cpu("embed", ["-i".as_ref(), file.as_os_str()])).stdout)
}

fn list(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.to_string().parse().unwrap()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn fields_of_objects_are_carried_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let lines = "{\"id\":1.50,\"text\":\"a cat\",\"tags\":[\"x\", {\"y\":null}]}\n\n\
                 {\"text\":\"a dog\",\"index\":\"seven\",\"id\":123456789012345678901234567890}\n";
    let input = write(directory.path(), "in.jsonl", lines);
    let expected = vectors(&["a cat", "a dog"]);
    succeed(embed(&[&input], &at("all.jsonl"), &[]));
    let all = std::fs::read_to_string(at("all.jsonl")).unwrap();
    let all: Vec<&str> = all.lines().collect();
    let starts = [
        "{\"index\":0,\"id\":1.50,\"text\":\"a cat\",\"tags\":[\"x\", {\"y\":null}],\"embedding\":[",
        "{\"text\":\"a dog\",\"index\":\"seven\",\"id\":123456789012345678901234567890,\"embedding\":[",
    ];
    for ((line, start), expected) in all.iter().zip(starts).zip(&expected) {
        assert!(line.starts_with(start), "{line}");
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(list(&object["embedding"]), *expected);
    }
    succeed(embed(&[&input], &at("id.jsonl"), &["--carry", "id", "--embedding-column", "v"]));
    let id = std::fs::read_to_string(at("id.jsonl")).unwrap();
    assert!(id.starts_with("{\"index\":0,\"id\":1.50,\"v\":["), "{id}");
    succeed(embed(&[&input], &at("none.jsonl"), &["--carry", "none"]));
    assert_eq!(rows_of(&std::fs::read(at("none.jsonl")).unwrap()), expected);
    let taken = embed(&[&input], &at("taken.jsonl"), &["--embedding-column", "id"]);
    refuse(
        taken,
        &["row 1 of the input", "already has a field `id`", "--embedding-column", "--carry"],
    );
    assert!(!at("taken.jsonl").exists());
}

#[test]
fn csv_is_read_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let expected = vectors(&["a cat", "two lines, both", ""]);
    let csv =
        "\u{feff}id,text,note\r\n1,a cat,\"\"\"x\"\"\"\r\n2,\"two lines, both\",y\r\n3,,z\r\n";
    let input = write(directory.path(), "in.csv", csv);
    succeed(embed(&[&input], &at("out.csv"), &[]));
    let mut reader = csv::Reader::from_path(at("out.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, ["id", "text", "note", "embedding"]);
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(&records[0][2], "\"x\"");
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(list(&serde_json::from_str(&record[3]).unwrap()), *expected);
    }
    // The other formats must have the same content.
    succeed(embed(&[&at("out.csv")], &at("out.tsv"), &["--embedding-column", "e2"]));
    let tsv = std::fs::read_to_string(at("out.tsv")).unwrap();
    assert!(tsv.starts_with("id\ttext\tnote\tembedding\te2\n1\ta cat\t"), "{tsv}");
    succeed(embed(&[&input], &at("out.jsonl"), &["--carry", "id"]));
    let lines = std::fs::read(at("out.jsonl")).unwrap();
    assert!(lines.starts_with(b"{\"index\":0,\"id\":\"1\",\"embedding\":["));
    assert_eq!(rows_of(&lines), expected);
    succeed(embed(&[&at("out.jsonl")], &at("again.csv"), &["--field", "id", "--carry", "id"]));
    assert!(std::fs::read_to_string(at("again.csv")).unwrap().starts_with("id,embedding\n1,"));

    let other = write(directory.path(), "other.csv", "id,body\n1,a\n");
    let refused =
        |args: &[&str], words: &[&str]| refuse(embed(&[&other], &at("no.csv"), args), words);
    refused(&[], &["other.csv", "no column `text`", "`id`, `body`", "--field"]);
    refused(&["--field", "body", "--carry", "idd"], &["--carry", "no column `idd`"]);
    refused(&["--column", "body", "--embedding-column", "id"], &["already has a column `id`"]);
    let ragged = write(directory.path(), "ragged.csv", "text\na\nb,c\n");
    refuse(embed(&[&ragged], &at("no.csv"), &[]), &["ragged.csv: line 3", "2 values"]);
    assert!(!at("no.csv").exists());
}

#[test]
fn the_first_objects_decide_the_columns() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut lines = "{\"text\":\"a\",\"n\":null}\n{\"n\":{\"m\":1},\"text\":\"b\"}\n".to_owned();
    let input = write(directory.path(), "in.jsonl", &lines);
    succeed(embed(&[&input], &at("out.csv"), &[]));
    let csv = std::fs::read_to_string(at("out.csv")).unwrap();
    assert!(csv.starts_with("text,n,embedding\na,,\"["), "{csv}");
    assert!(csv.contains("\nb,\"{\"\"m\"\":1}\",\"["), "{csv}");
    lines = lines.repeat(600) + "{\"text\":\"c\",\"late\":1}\n";
    let input = write(directory.path(), "in.jsonl", &lines);
    refuse(embed(&[&input], &at("no.csv"), &[]), &["row 1201", "field `late`", "--carry"]);
}

#[test]
fn text_formats_are_compressed_by_extension() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let lines: String = (0..300).map(|i| format!("{{\"text\":\"line {i}\"}}\n")).collect();
    let packed = [gzip(&lines.as_bytes()[..1000]), gzip(&lines.as_bytes()[1000..])].concat();
    let input = write(directory.path(), "in.jsonl.gz", &packed);
    let plain = write(directory.path(), "in.jsonl", &lines);
    succeed(embed(&[&plain], &at("plain.jsonl"), &[]));
    succeed(embed(&[&input], &at("out.jsonl.gz"), &["--part-rows", "64"]));
    let bytes = std::fs::read(at("out.jsonl.gz")).unwrap();
    assert_eq!(gunzip(&bytes), std::fs::read(at("plain.jsonl")).unwrap());
    let cut = write(directory.path(), "cut.jsonl.gz", &packed[..packed.len() - 20]);
    refuse(embed(&[&cut], &at("no.jsonl"), &[]), &["cut.jsonl.gz", "cannot be read"]);
    let not = write(directory.path(), "not.txt.gz", "words");
    refuse(embed(&[&not], &at("no.jsonl"), &[]), &["not.txt.gz", "cannot be read"]);
    refuse(embed(&[&plain], &at("no.npy.gz"), &[]), &["no.npy.gz", "last extension"]);
    assert!(!names(directory.path()).iter().any(|name| name.starts_with("no.")));
}

#[test]
fn files_directories_and_patterns_are_read_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let inputs = directory.path().join("in");
    std::fs::create_dir_all(inputs.join("more")).unwrap();
    for (name, text) in [("b.txt", "b"), ("a.txt", "a"), ("more/c.txt", "c")] {
        write(&inputs, name, format!("{text}\n"));
    }
    write(&inputs, ".hidden.txt", "no");
    write(&inputs, "README.md", "no");
    let expected = vectors(&["a", "b", "c"]);
    let out = inputs.join("out.jsonl");
    let read = |paths: &[&Path]| {
        succeed(embed(paths, &out, &[]));
        rows_of(&std::fs::read(&out).unwrap())
    };
    // The output is in the same directory as the inputs, but it is not read as an input.
    assert_eq!(read(&[&inputs]), expected);
    assert_eq!(read(&[&inputs]), expected);
    assert_eq!(read(&[&inputs.join("*.txt")]), expected[..2]);
    let (a, b) = (inputs.join("a.txt"), inputs.join("b.txt"));
    assert_eq!(read(&[&b, &a, &b]), [&expected[1..2], &expected[..1], &expected[1..2]].concat());
    let none = directory.path().join("none");
    std::fs::create_dir(&none).unwrap();
    refuse(embed(&[&none], &out, &[]), &["none", "is a directory without .txt"]);
    refuse(embed(&[&none.join("*.jsonl")], &out, &[]), &["no file matches"]);
    refuse(
        embed(&[&a, Path::new("-")], &out, &[]),
        &["stdin", "cannot be combined with other inputs"],
    );
    let objects = write(directory.path(), "d.jsonl", "{\"text\":\"d\"}\n");
    refuse(embed(&[&a, &objects], &out, &[]), &["d.jsonl", "another format", "a.txt"]);
    // An error must name the file in which it occurred.
    let bad = write(&inputs, "more/d.txt", b"good\n\xff\n");
    refuse(embed(&[&inputs], &out, &[]), &["d.txt: line 2", "UTF-8"]);
    std::fs::remove_file(bad).unwrap();
}

#[test]
fn a_failed_row_stops_the_run_or_gets_null() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let long = "word ".repeat(500);
    let lines = format!(
        "{{\"text\":\"a\",\"id\":1}}\n{{\"text\":null,\"id\":2}}\nwords\n{{\"text\":\"{long}\",\"id\":4}}\n\
         {{\"text\":\"b\",\"id\":5}}\n"
    );
    let input = write(directory.path(), "in.jsonl", lines);
    let strict = ["--on-too-long", "error"];
    refuse(embed(&[&input], &at("no.jsonl"), &strict), &["in.jsonl: line 2:", "null"]);
    let args = [&strict[..], &["--on-error", "null", "--carry", "id"]].concat();
    let output = succeed(embed(&[&input], &at("out.jsonl"), &args));
    let said = stderr(&output);
    for words in [
        "in.jsonl: line 2:",
        "in.jsonl: line 3:",
        "in.jsonl: line 4:",
        "rows: 5 read, 5 written, 3 null",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    let expected = vectors(&["a", "b"]);
    let lines = std::fs::read_to_string(at("out.jsonl")).unwrap();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 5);
    assert_eq!((list(&rows[0]["embedding"]), &rows[0]["id"]), (expected[0].clone(), &1.into()));
    assert_eq!(list(&rows[4]["embedding"]), expected[1]);
    for row in &rows[1..4] {
        assert_eq!(row["embedding"], Value::Null);
    }
    assert_eq!((&rows[1]["id"], rows[2].get("id"), &rows[3]["id"]), (&2.into(), None, &4.into()));
    // The ranges come only from the rows that have vectors.
    let args = [&args[..], &["--precision", "uint8"]].concat();
    succeed(embed(&[&input], &at("out8.jsonl"), &args));
    let lines = std::fs::read_to_string(at("out8.jsonl")).unwrap();
    assert_eq!(lines.matches("\"embedding\":null").count(), 3);
    let args = ["--on-error", "null"];
    refuse(embed(&[&input], &at("no.npy"), &args), &["--on-error null", "NumPy"]);
}
