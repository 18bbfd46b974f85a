//! Tests files and runs from public reports about other programs. Each report is named by its repository and number.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::*;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{BrotliLevel, Compression};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::support::*;

const TEXTS: [&str; 3] = ["a cat", "a dog", "a bird"];

fn embed(input: &Path, output: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}

/// Returns three texts beside other columns.
fn batch(others: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(TEXTS.to_vec()));
    let columns = std::iter::once(("text", texts)).chain(others);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
}

fn parquet(path: &Path, batch: &RecordBatch, codec: Compression) {
    let properties = WriterProperties::builder().set_compression(codec).build();
    let file = File::create(path).unwrap();
    let mut out = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    out.write(batch).unwrap();
    out.close().unwrap();
}

/// Returns the rows of the output for a file, as JSON lines.
fn rows(input: &Path, args: &[&str]) -> Vec<Value> {
    let output = succeed(with_input(input, args));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_input(input: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--input").arg(input);
    command
}

#[test]
fn parquet_of_every_codec_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let mut lists = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..3 {
        for _ in 0..row {
            lists.values().values().append_value("x");
            lists.values().append(true);
        }
        lists.append(true);
    }
    // hangxie/parquet-tools#211: a list of lists, in brotli.
    let nested = batch(vec![("lists", Arc::new(lists.finish()))]);
    // benwatson528/intellij-avro-parquet-plugin#96: an index of two levels beside random numbers, in brotli.
    let index: ArrayRef = Arc::new(StringArray::from(vec!["bar", "bar", "baz"]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![0.25, -1.5, 1e-9]));
    let levels =
        vec![("A", numbers), ("__index_level_0__", index.clone()), ("__index_level_1__", index)];
    let brotli = |level| Compression::BROTLI(BrotliLevel::try_new(level).unwrap());
    // Text formats cannot hold lists, so the column of lists is left out.
    let cases =
        [("nested", nested, &["--carry", "all,-lists"][..]), ("levels", batch(levels), &[])];
    for (name, batch, args) in cases {
        parquet(&at("plain.parquet"), &batch, Compression::UNCOMPRESSED);
        let plain = rows(&at("plain.parquet"), args);
        assert_eq!(plain.len(), 3);
        // kuzudb/kuzu#3278 and adamviola/parquet-explorer#22: brotli. dvirtz/vscode-parquet-viewer#102: gzip, brotli
        // and lz4, as pandas offers them.
        for codec in [
            brotli(0),
            brotli(11),
            Compression::GZIP(Default::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
            Compression::SNAPPY,
        ] {
            parquet(&at("packed.parquet"), &batch, codec);
            assert_eq!(rows(&at("packed.parquet"), args), plain, "{name} {codec}");
        }
        succeed(embed(&at("packed.parquet"), &at("out.parquet"), &[]));
        let file = File::open(at("out.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let written: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            assert_eq!(written[0].column_by_name(field.name()), Some(column), "{name}");
        }
    }
}

#[test]
fn feather_is_read_in_version_2_and_named_in_version_1() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let batch = batch(Vec::new());
    parquet(&at("plain.parquet"), &batch, Compression::UNCOMPRESSED);
    let plain = rows(&at("plain.parquet"), &[]);
    // apache/arrow-rs#286: version 2 as pyarrow and pandas write it, with compressed buffers.
    for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        let file = File::create(at("new.feather")).unwrap();
        let mut out = FileWriter::try_new_with_options(file, &batch.schema(), options).unwrap();
        out.write(&batch).unwrap();
        out.finish().unwrap();
        assert_eq!(rows(&at("new.feather"), &[]), plain, "{codec:?}");
    }
    // opensafely-core/ehrql#2244: the extension does not tell the versions apart. wesm/feather#229: a file that was
    // overwritten by a shorter one. nextmv-io/sdk#128: a reader of Arrow IPC gets such a file.
    for (name, bytes) in [
        ("old.arrow", &b"FEA1\0\0\0\0data and footerFEA1"[..]),
        ("short.feather", b"FEA1"),
        ("old.ipc", b"FEA1\0\0\0\0\x08\0\0\0FEA1"),
    ] {
        let old = write(directory.path(), name, bytes);
        let words = [name, "Feather file of version 1", "feather.write_feather"];
        refuse(with_input(&old, &[]), &words);
        let mut search = with_model_on_cpu("search", ["a", "--in"]);
        search.arg(&old);
        refuse(search, &words);
    }
}

#[test]
fn utf_16_is_named_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let little =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let big = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    let cases: [(&str, Vec<u8>, &str); 5] = [
        // pandas-dev/pandas#26446: to_csv(encoding="utf16") begins with a mark and an empty name.
        ("a.csv", [&b"\xff\xfe"[..], &little(",0\n0,foo\n")].concat(), "iconv -f UTF-16 "),
        // huggingface/datasets#5969: JSON lines in UTF-16.
        ("b.jsonl", little("{\"text\":\"a\"}\n"), "iconv -f UTF-16LE "),
        ("c.json", big("[{\"text\":\"a\"}]"), "iconv -f UTF-16BE "),
        // openwall/john#2802: `>` of Windows PowerShell writes UTF-16 with a mark and CRLF.
        ("d.txt", [&b"\xff\xfe"[..], &little("a cat\r\na dog\r\n")].concat(), "iconv -f UTF-16 "),
        // T0pCyber/hawk#84: Export-Csv -Encoding Unicode, here in the other byte order.
        ("e.csv", [&b"\xfe\xff"[..], &big("\"text\"\r\n\"a\"\r\n")].concat(), "iconv -f UTF-16 "),
    ];
    for (name, bytes, command) in cases {
        let file = write(directory.path(), name, bytes);
        refuse(with_input(&file, &[]), &[name, "line 1:", "UTF-16", command]);
        let mut search = with_model_on_cpu("search", ["--in", "-", "--queries"]);
        search.arg(&file);
        refuse(search, &[name, "UTF-16", command]);
    }
}

/// Returns the metadata of a Parquet file that other programs read.
fn entry(path: &Path, key: &str) -> Option<Value> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let entries = reader.metadata().file_metadata().key_value_metadata()?.clone();
    let value = entries.into_iter().find(|entry| entry.key == key)?.value?;
    serde_json::from_str(&value).ok()
}

#[test]
fn an_index_of_pandas_of_any_kind_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let names: ArrayRef = Arc::new(StringArray::from(vec!["u", "v", "w"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
    let unicode = json!([{"name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object", "metadata": null}]);
    // Each case: the columns of the index, and its description.
    let cases = [
        // pandas-dev/pandas#51717: an index with a name.
        (vec![("idx", numbers.clone())], json!(["idx"])),
        // scverse/spatialdata#1126: a range, which has a name and no column.
        (vec![], json!([{"kind": "range", "name": "points", "start": 0, "stop": 3, "step": 1}])),
        // pandas-dev/pandas#59385: several levels.
        (
            vec![("__index_level_0__", names), ("__index_level_1__", numbers.clone())],
            json!(["__index_level_0__", "__index_level_1__"]),
        ),
        // dask/fastparquet#732: the column of an index without a name is called index.
        (vec![("index", numbers)], json!(["index"])),
    ];
    for (columns, index) in cases {
        let wanted: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let batch = batch(columns);
        let pandas = json!({"index_columns": index, "column_indexes": unicode, "columns": []});
        let fields = batch.schema().fields().clone();
        let metadata = [("pandas".to_owned(), pandas.to_string())];
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        parquet(&at("in.parquet"), &batch.with_schema(schema).unwrap(), Compression::SNAPPY);
        succeed(embed(&at("in.parquet"), &at("out.parquet"), &[]));
        assert_eq!(entry(&at("out.parquet"), "pandas"), Some(pandas), "{index}");
        let file = File::open(at("out.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let kept: Vec<&str> =
            reader.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert!(wanted.iter().all(|name| kept.contains(&name.as_str())), "{kept:?}");
    }
}

#[test]
fn carried_columns_are_those_that_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let line = json!({"a": 1, "text": "a cat", "b": [2], "embedding": "old", "inputs": "x"});
    let file = write(directory.path(), "in.jsonl", format!("{line}\n"));
    let names = |args: &[&str]| -> Vec<String> {
        let mut names: Vec<String> =
            rows(&file, args)[0].as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let other = ["--embedding-column", "vector"];
    // huggingface/datasets#4858: columns that are not named anywhere are lost.
    let all = names(&other);
    assert_eq!(all, ["a", "b", "embedding", "index", "inputs", "text", "vector"]);
    // huggingface/datasets#4398: the column of the texts is left out.
    let without = names(&[&other[..], &["--carry", "all,-text,-inputs"]].concat());
    assert_eq!(without, ["a", "b", "embedding", "index", "vector"]);
    // tidymodels/embed#176: whether the original columns stay is for the user to say.
    assert_eq!(names(&[&other[..], &["--carry", "none"]].concat()), ["index", "vector"]);
    // huggingface/datasets#6408: a new column has the name of one that is left out.
    let replaced = rows(&file, &["--carry", "all,-embedding"]);
    assert!(replaced[0]["embedding"].is_array() && replaced[0]["a"] == 1, "{replaced:?}");
}

#[test]
fn a_run_says_at_its_end_what_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    let last = |command: Command| {
        let said = stderr(&succeed(command));
        said.lines().last().unwrap_or_default().to_owned()
    };
    let null = ["--on-error", "null"];
    // drt-hub/drt#342: an input without rows looks like one that was processed.
    let empty = write(directory.path(), "empty.jsonl", "");
    let said = last(embed(&empty, &at("empty.out.jsonl"), &null));
    assert_eq!(said, "rows: 0 read, 0 written, 0 null, 0 truncated");
    // geocodeearth/ge#14 and nao1215/sqly#886: rows that failed or were skipped are counted.
    let lines = "{\"text\":\"a\"}\n{\"text\":null}\n{\"id\":1}\n[]\n";
    let some = write(directory.path(), "some.jsonl", lines);
    let said = last(embed(&some, &at("some.out.jsonl"), &null));
    assert_eq!(said, "rows: 4 read, 4 written, 3 null, 0 truncated");
    // j-easy/easy-batch#124: the counts of several files are added up.
    let mut both = embed(&some, &at("both.out.jsonl"), &null);
    both.arg("--input").arg(&some);
    assert_eq!(last(both), "rows: 8 read, 8 written, 6 null, 0 truncated");
}
