//! Tests JSON as other programs write it: numbers that JSON does not have, half of an emoji, and arrays of objects.
//! Also tests the columns that are carried.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

fn embed(directory: &Path, name: &str, content: &[u8], args: &[&str]) -> Command {
    let file = write(directory, name, content);
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--quiet").arg("--input").arg(file);
    command
}

/// Returns the lines of the output, each without its vector.
fn lines(name: &str, content: &str, args: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let output = stdout(&succeed(embed(directory.path(), name, content.as_bytes(), args)));
    let line = |line: &str| {
        let (fields, vector) = line.split_once(",\"embedding\":").unwrap();
        assert!(vector.starts_with('['), "{line}");
        fields.to_owned()
    };
    output.lines().map(line).collect()
}

fn refused(name: &str, content: &str, args: &[&str], words: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    refuse(embed(directory.path(), name, content.as_bytes(), args), words);
}

#[test]
fn any_number_of_empty_arrays_is_read() {
    let arrays = format!("{}[{{\"text\":\"a\"}}]", "[]".repeat(500_000));
    assert_eq!(lines("a.json", &arrays, &[]), ["{\"index\":0,\"text\":\"a\""]);
}

#[test]
fn a_line_of_200_000_fields_is_read_within_a_minute() {
    let fields: String = (0..200_000).map(|number| format!("\"{number}\":0,")).collect();
    let line = format!("{{{fields}\"text\":\"a\",\"7\":1}}");
    let started = std::time::Instant::now();
    let read = lines("a.jsonl", &line, &[]);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    assert!(read[0].contains("\"6\":0,\"7\":1,\"8\":0"), "{:.200}", read[0]);
}

#[test]
fn numbers_that_json_does_not_have_are_carried() {
    let nan = "{\"text\":\"first\",\"score\":0.5}\n{\"text\":\"second\",\"score\":NaN}\n\
               {\"text\":\"third\",\"score\":Infinity}\n";
    let expected = [
        "{\"index\":0,\"text\":\"first\",\"score\":0.5",
        "{\"index\":1,\"text\":\"second\",\"score\":NaN",
        "{\"index\":2,\"text\":\"third\",\"score\":Infinity",
    ];
    assert_eq!(lines("nan.jsonl", nan, &[]), expected);
    // See VowpalWabbit/vowpal_wabbit#3738 and ICRAR/ijson#139, about NaN in nested values.
    let nested = "{\"_label\": 1, \"features\": {\"f1\": NaN}, \"text\": \"NaN is not a number\"}\n\
                  {\"array\":[0.0, NaN, -Infinity],\"text\":\"b\"}\n";
    let expected = [
        "{\"index\":0,\"_label\":1,\"features\":{\"f1\": NaN},\"text\":\"NaN is not a number\"",
        "{\"index\":1,\"array\":[0.0, NaN, -Infinity],\"text\":\"b\"",
    ];
    assert_eq!(lines("a.jsonl", nested, &[]), expected);
    // See simonw/datasette#332, about rows in an array.
    let rows =
        "[\n  {\n    \"rowid\": 2,\n    \"name\": \"terry\",\n    \"num\": Infinity\n  }\n]\n";
    let expected = ["{\"index\":0,\"rowid\":2,\"name\":\"terry\",\"num\":Infinity"];
    assert_eq!(lines("b.json", rows, &["--field", "name"]), expected);
    // See pandas-dev/pandas#30716, where the text itself is NaN.
    let words = ["c.jsonl: line 2:", "number", "string in the field `text`"];
    refused("c.jsonl", "{\"text\":\"a\"}\n{\"text\":NaN}\n", &[], &words);
    refused("d.jsonl", "{\"text\":\"a\",\"n\":NaNs}\n", &[], &["d.jsonl: line 1:"]);
    // The text formats must hold the same values.
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.csv");
    let mut command = embed(directory.path(), "nan.jsonl", nan.as_bytes(), &[]);
    command.arg("--output").arg(&out);
    succeed(command);
    let csv = std::fs::read_to_string(&out).unwrap();
    assert!(csv.contains("\nsecond,NaN,") && csv.contains("\nthird,Infinity,"), "{csv}");
}

#[test]
fn half_of_an_emoji_is_refused_or_replaced() {
    // See ThomasKliszowski/json_reindent#12, openai/tiktoken#82 and umran666/UniqToken#10.
    let halves = "{\"potato\":\"fine\"}\n{\"potato\":\"\\ud83d\"}\n{\"potato\":\"fr\\udbc0\"}\n\
                  {\"potato\":\"hello \\ud800 world\"}\n";
    let args = ["--field", "potato"];
    let words = ["a.jsonl: line 2:", "field `potato`", "half an emoji", "--lossy"];
    refused("a.jsonl", halves, &args, &words);
    let expected = [
        "{\"index\":0,\"potato\":\"fine\"",
        "{\"index\":1,\"potato\":\"\\ufffd\"",
        "{\"index\":2,\"potato\":\"fr\\ufffd\"",
        "{\"index\":3,\"potato\":\"hello \\ufffd world\"",
    ];
    assert_eq!(lines("a.jsonl", halves, &["--field", "potato", "--lossy"]), expected);
    let whole = "{\"text\":\"\\ud83d\\ude00\"}\n";
    assert_eq!(lines("b.jsonl", whole, &["--lossy"]), ["{\"index\":0,\"text\":\"\\ud83d\\ude00\""]);
    // The vectors are the same as those of texts with U+FFFD.
    let directory = tempfile::tempdir().unwrap();
    let alone = ["--lossy", "--carry", "none"];
    let half = embed(directory.path(), "c.jsonl", b"{\"text\":\"x \\udc00\"}\n", &alone);
    let replaced = with_model_on_cpu("embed", ["x \u{fffd}", "--quiet"]);
    assert_eq!(succeed(half).stdout, succeed(replaced).stdout);
    // If a field is only carried, half of a surrogate pair can stay in JSON, but it cannot become text.
    let carried = "{\"text\":\"a\",\"note\":\"\\ud83d\"}\n";
    let expected = ["{\"index\":0,\"text\":\"a\",\"note\":\"\\ud83d\""];
    assert_eq!(lines("d.jsonl", carried, &[]), expected);
    let mut command = embed(directory.path(), "d.jsonl", carried.as_bytes(), &[]);
    command.arg("--output").arg(directory.path().join("out.csv"));
    refuse(command, &["row 1 of the input", "half an emoji", "`note`", "--lossy"]);
}

#[test]
fn an_array_of_objects_is_a_file_of_rows() {
    let expected = ["{\"index\":0,\"text\":\"a\"", "{\"index\":1,\"text\":\"b\""];
    assert_eq!(lines("array.json", "[{\"text\":\"a\"},{\"text\":\"b\"}]\n", &[]), expected);
    // See apache/arrow#40912, about an array that json.dump wrote with indent=4.
    let indented =
        "[\n    {\n        \"text\": \"a\"\n    },\n    {\n        \"text\": \"b\"\n    }\n]";
    assert_eq!(lines("b.json", indented, &[]), expected);
    // See huggingface/datasets#6891, about JSON lines with the extension .json.
    assert_eq!(lines("c.json", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n", &[]), expected);
    // See huggingface/datasets#8275, about a file with one array for each batch of rows.
    assert_eq!(lines("d.json", "[{\"text\":\"a\"}][{\"text\":\"b\"}]\n", &[]), expected);
    let named = ["--input-format", "json"];
    assert_eq!(
        lines("e.jsonl", "\u{feff} [{\"text\":\"a\"} , {\"text\":\"b\"}]", &named),
        expected
    );
    assert!(lines("f.json", "[]\n", &[]).is_empty());
    assert!(lines("g.json", "", &[]).is_empty());
    let nested = "[{\"text\":\"a ],[ b\",\"tags\":[\n1,\n{\"x\":\"\\\"}\"}]}]";
    let expected = ["{\"index\":0,\"text\":\"a ],[ b\",\"tags\":[ 1, {\"x\":\"\\\"}\"}]"];
    assert_eq!(lines("h.json", nested, &[]), expected);

    refused("a.json", "[{\"text\":\"a\"},{\"body\":\"b\"}]", &[], &["a.json: object 2:", "`text`"]);
    refused(
        "b.json",
        "[{\"text\":\"a\"},\n{\"text\":\"b\"",
        &[],
        &["line 2:", "no end", "complete"],
    );
    refused("c.json", "[{\"text\":\"a\"}", &[], &["no end"]);
    refused("d.json", "[{\"text\":\"a\"},]", &[], &["line 1:", "expected an object"]);
    refused(
        "e.json",
        "[{\"text\":\"a\"}\n{\"text\":\"b\"}]",
        &[],
        &["line 2:", "comma after object 1"],
    );
    refused("f.json", "[{\"text\":\"a\"}] x", &[], &["after the end"]);
    // By default pandas' to_json writes an object of columns.
    let columns = "{\"text\":{\"0\":\"a\",\"1\":\"b\"}}";
    refused(
        "g.json",
        columns,
        &[],
        &["object 1:", "string in the field `text`", "orient=\"records\""],
    );
    refused("h.jsonl", "[{\"text\":\"a\"}]\n", &[], &["h.jsonl: line 1:", "--input-format json"]);
}

#[test]
fn carry_can_leave_columns_out() {
    let rows = "{\"id\":1,\"text\":\"a\",\"secret\":\"s\",\"tag\":true}\n";
    let expected = ["{\"index\":0,\"id\":1,\"text\":\"a\",\"tag\":true"];
    assert_eq!(lines("a.jsonl", rows, &["--carry", "all,-secret"]), expected);
    let expected = ["{\"index\":0,\"id\":1,\"tag\":true"];
    assert_eq!(lines("a.jsonl", rows, &["--carry", "-secret,-text"]), expected);
    let csv = "id,text,secret\n1,a,s\n";
    let expected = ["{\"index\":0,\"id\":\"1\",\"text\":\"a\""];
    assert_eq!(lines("a.csv", csv, &["--carry=all,-secret"]), expected);
    refused("b.csv", csv, &["--carry", "all,-secrets"], &["--carry", "no column `secrets`"]);
    let directory = tempfile::tempdir().unwrap();
    let mixed = embed(directory.path(), "c.csv", csv.as_bytes(), &["--carry", "-id,text"]);
    refuse_arguments(mixed, &["--carry", "all,-NAME"]);
}

#[test]
fn utf_16_is_refused_with_the_command_that_converts_it() {
    let utf_16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], words: &[&str]| {
        refuse(embed(directory.path(), name, content, &[]), words);
    };
    let text = [&b"\xff\xfe"[..], &utf_16("text\na\n")].concat();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let command = |name: &str| {
        format!("iconv -f UTF-16 -t UTF-8 {} > {}", path(name), path(&name.replace('.', ".utf8.")))
    };
    for name in ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.json"] {
        check(name, &text, &[name, "line 1:", "UTF-16", &command(name)]);
    }
    // See HKUDS/Vibe-Trading#865 ("Unicode text" of Excel and Notepad) and csv2db/csv2db#50 ("UTF-16LE" without a
    // mark).
    check("b.csv", &utf_16("id,text\r\n1,a\r\n"), &["iconv -f UTF-16LE -t UTF-8"]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, &text).unwrap();
    let packed = packed.finish().unwrap();
    check(
        "c.csv.gz",
        &packed,
        &["gzip -dc", "c.csv.gz | iconv -f UTF-16 -t UTF-8 > ", "c.utf8.csv"],
    );
    // A file in Latin-1 must not be taken for UTF-16.
    check("d.txt", b"caf\xe9\n", &["d.txt: line 1:", "byte 4", "--lossy"]);
    let row: Value = serde_json::from_str(&stdout(&succeed(embed(
        directory.path(),
        "e.csv",
        "\u{feff}text\na\n".as_bytes(),
        &[],
    ))))
    .unwrap();
    assert_eq!(row["text"], "a");
}
