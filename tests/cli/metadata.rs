//! Tests schema metadata, codecs and versions of Parquet and Arrow files.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::support::*;

fn embed(input: &Path, output: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--quiet").arg("--input").arg(input).arg("--output").arg(output);
    command
}

/// Returns three texts with an index column, named as pandas names it.
fn batch() -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a cat", "a dog", "a bird"]));
    let index: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    RecordBatch::try_from_iter_with_nullable([
        ("text", texts, true),
        ("__index_level_0__", index, true),
    ])
    .unwrap()
}

/// Returns the metadata that pandas writes for [`batch`], if the names of columns have this type.
fn pandas(names: &str) -> String {
    let column = |name: Option<&str>, field: &str| json!({"name": name, "field_name": field, "pandas_type": "unicode", "numpy_type": "object", "metadata": null});
    json!({
        "index_columns": ["__index_level_0__"],
        "column_indexes": [{"name": null, "field_name": null, "pandas_type": names, "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}],
        "columns": [column(Some("text"), "text"), column(None, "__index_level_0__")],
        "creator": {"library": "pyarrow", "version": "20.0.0"},
        "pandas_version": "2.2.3",
    })
    .to_string()
}

fn write_parquet(path: &Path, metadata: &[(&str, &str)], codec: Compression) {
    let entries = metadata.iter().map(|(k, v)| KeyValue::new((*k).to_owned(), (*v).to_owned()));
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_key_value_metadata(Some(entries.collect()))
        .build();
    let batch = batch();
    let file = File::create(path).unwrap();
    let mut out = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    out.write(&batch).unwrap();
    out.close().unwrap();
}

/// Reads an entry of a Parquet file's own metadata, which other programs read too.
fn entry(path: &Path, key: &str) -> Option<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let entries =
        reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    entries.into_iter().find(|entry| entry.key == key).and_then(|entry| entry.value)
}

#[test]
fn the_index_of_pandas_and_the_features_of_datasets_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let features =
        json!({"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}).to_string();
    let metadata = [("pandas", pandas("unicode")), ("huggingface", features.clone())];
    let metadata = metadata.each_ref().map(|(key, value)| (*key, value.as_str()));
    write_parquet(&at("in.parquet"), &metadata, Compression::SNAPPY);
    // The output is written as one part, and then as parts that are joined.
    for args in [&[][..], &["--part-rows", "1"]] {
        succeed(embed(&at("in.parquet"), &at("out.parquet"), args));
        assert_eq!(entry(&at("out.parquet"), "pandas"), Some(pandas("unicode")));
        assert_eq!(entry(&at("out.parquet"), "huggingface"), Some(features.clone()));
        assert!(entry(&at("out.parquet"), "ARROW:schema").is_some());
    }
    // An Arrow file has the metadata in its schema.
    succeed(embed(&at("in.parquet"), &at("out.arrow"), &[]));
    let file = File::open(at("out.arrow")).unwrap();
    let schema = arrow_ipc::reader::FileReader::try_new(file, None).unwrap().schema();
    assert_eq!(schema.metadata().get("pandas"), Some(&pandas("unicode")));
    succeed(embed(&at("out.arrow"), &at("again.parquet"), &["--embedding-column", "again"]));
    assert_eq!(entry(&at("again.parquet"), "pandas"), Some(pandas("unicode")));
    // See pandas-dev/pandas#34790 and dask/dask#9773. The index must not become a column in pandas. Its column is
    // carried.
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(at("out.parquet")).unwrap()).unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["text", "__index_level_0__", "embedding"]);
    // If the metadata says that names of columns are numbers, `column_indexes` is dropped. The name "embedding" is no
    // number, so pandas would refuse to read the file.
    write_parquet(&at("numbers.parquet"), &[("pandas", &pandas("int64"))], Compression::SNAPPY);
    succeed(embed(&at("numbers.parquet"), &at("out.parquet"), &[]));
    let kept: Value = serde_json::from_str(&entry(&at("out.parquet"), "pandas").unwrap()).unwrap();
    assert_eq!(kept["column_indexes"], json!([]));
    assert_eq!(kept["index_columns"], json!(["__index_level_0__"]));
    // The same is true if names have several levels.
    let mut levels: Value = serde_json::from_str(&pandas("unicode")).unwrap();
    let level = levels["column_indexes"][0].clone();
    levels["column_indexes"] = json!([level, level]);
    let metadata = [("pandas", levels.to_string())];
    let metadata = metadata.each_ref().map(|(key, value)| (*key, value.as_str()));
    write_parquet(&at("levels.parquet"), &metadata, Compression::SNAPPY);
    succeed(embed(&at("levels.parquet"), &at("out.parquet"), &[]));
    let kept: Value = serde_json::from_str(&entry(&at("out.parquet"), "pandas").unwrap()).unwrap();
    assert_eq!(kept["column_indexes"], json!([]));
    // Files with different metadata can be combined, such as those that pandas wrote with a range as index.
    std::fs::create_dir(at("parts")).unwrap();
    write_parquet(&at("parts/a.parquet"), &[("pandas", &pandas("unicode"))], Compression::SNAPPY);
    write_parquet(&at("parts/b.parquet"), &[("other", "x")], Compression::SNAPPY);
    succeed(embed(&at("parts"), &at("both.parquet"), &[]));
    assert_eq!(entry(&at("both.parquet"), "pandas"), Some(pandas("unicode")));
}

#[test]
fn categories_as_index_keep_their_values() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a cat", "a dog", "a bird"]));
    let index: DictionaryArray<Int8Type> = ["u", "v", "u"].into_iter().collect();
    let columns = [("text", texts, true), ("__index_level_0__", Arc::new(index) as ArrayRef, true)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let schema = Arc::new(Schema::new_with_metadata(
        batch.schema().fields().clone(),
        [("pandas", pandas("unicode"))],
    ));
    let batch = batch.with_schema(schema).unwrap();
    let mut out =
        ArrowWriter::try_new(File::create(at("in.parquet")).unwrap(), batch.schema(), None)
            .unwrap();
    out.write(&batch).unwrap();
    out.close().unwrap();
    succeed(embed(&at("in.parquet"), &at("out.parquet"), &[]));
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(File::open(at("out.parquet")).unwrap()).unwrap();
    let found: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let index = found[0].column_by_name("__index_level_0__").unwrap().as_string::<i32>();
    assert_eq!(index.iter().map(Option::unwrap).collect::<Vec<_>>(), ["u", "v", "u"]);
    assert_eq!(entry(&at("out.parquet"), "pandas"), Some(pandas("unicode")));
}

#[test]
fn brotli_is_read_and_feather_1_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_parquet(&at("brotli.parquet"), &[], Compression::BROTLI(Default::default()));
    write_parquet(&at("plain.parquet"), &[], Compression::UNCOMPRESSED);
    let rows = |name: &str| {
        succeed(embed(&at(name), &at("out.jsonl"), &[]));
        std::fs::read_to_string(at("out.jsonl")).unwrap()
    };
    // See duckdb/duckdb#11938 and mukunku/ParquetViewer#18, about files that pandas wrote with compression="brotli".
    assert_eq!(rows("brotli.parquet"), rows("plain.parquet"));
    // Both versions of Feather have the same extension: see aertslab/create_cisTarget_databases#6 and
    // ICB-DCM/pyABC#315.
    let feather = write(directory.path(), "old.feather", b"FEA1\0\0\0\0data and footerFEA1");
    let words = ["old.feather", "Feather file of version 1", "feather.write_feather", "read_table"];
    refuse(embed(&feather, &at("no.jsonl"), &[]), &words);
}
