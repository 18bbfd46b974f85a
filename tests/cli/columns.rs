//! Tests Parquet and Arrow files as input and output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::support::*;

fn embed(input: &Path, output: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}

const TEXTS: [&str; 5] = ["A cat sat on the roof.", "", "the dog ran", "naïve café", "x y z"];

fn expected() -> Vec<Vec<f32>> {
    rows_of(&succeed(with_model_on_cpu("embed", TEXTS)).stdout)
}

/// Returns a table with a column of texts, and columns of many other types.
fn table() -> RecordBatch {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for i in 0..5 {
        for j in 0..i {
            lists.values().append_value(format!("{i}.{j}"));
        }
        lists.append(i != 3);
    }
    let categories: DictionaryArray<Int32Type> = ["a", "b", "a", "c", "b"].into_iter().collect();
    let times = TimestampMicrosecondArray::from(vec![
        Some(0),
        None,
        Some(1_700_000_000_123_456),
        Some(-1),
        Some(5),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, i64::MAX, -4, 5]))),
        ("body", Arc::new(StringArray::from(TEXTS.to_vec()))),
        (
            "score",
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(1e300), Some(-0.0), Some(3.0)])),
        ),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true, true, false]))),
        ("when", Arc::new(times.with_timezone("UTC"))),
        ("category", Arc::new(categories)),
        ("lists", Arc::new(lists.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

fn parquet_of(path: &Path, batch: &RecordBatch, codec: Compression) -> PathBuf {
    // The file gets row groups of two rows.
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(Some(2))
        .build();
    let mut out =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties))
            .unwrap();
    out.write(batch).unwrap();
    out.close().unwrap();
    path.to_owned()
}

fn read_parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

fn read_arrow(path: &Path) -> RecordBatch {
    let reader = FileReader::try_new(File::open(path).unwrap(), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

/// Returns the vectors of a column whose values are lists of fixed size.
fn vectors<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    column: &str,
) -> Vec<Option<Vec<T::Native>>> {
    let lists = batch.column_by_name(column).unwrap().as_fixed_size_list();
    let row = |row: Option<ArrayRef>| row.map(|row| row.as_primitive::<T>().values().to_vec());
    lists.iter().map(row).collect()
}

#[test]
fn columns_pass_through_parquet_and_arrow_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let table = table();
    let field = ["--field", "body"];
    let expected: Vec<Option<Vec<f32>>> = expected().into_iter().map(Some).collect();
    // In the output, dictionaries are replaced by their values.
    let plain = |name: &str| -> ArrayRef {
        match name {
            "category" => Arc::new(StringArray::from(vec!["a", "b", "a", "c", "b"])),
            _ => table.column_by_name(name).unwrap().clone(),
        }
    };
    let same = |found: &RecordBatch| {
        let schema = found.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["id", "body", "score", "ok", "when", "category", "lists", "embedding"]);
        for name in &names[..7] {
            assert_eq!(found.column_by_name(name).unwrap(), &plain(name), "{name}");
        }
        let of = schema.field(7).data_type();
        assert!(
            matches!(of, DataType::FixedSizeList(item, 48) if *item.data_type() == DataType::Float32)
        );
        assert_eq!(vectors::<Float32Type>(found, "embedding"), expected);
    };
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::GZIP(Default::default()),
        Compression::LZ4_RAW,
    ] {
        let input = parquet_of(&at("in.parquet"), &table, codec);
        succeed(embed(&input, &at("out.parquet"), &[&field[..], &["--part-rows", "3"]].concat()));
        same(&read_parquet(&at("out.parquet")));
    }
    succeed(embed(&at("in.parquet"), &at("out.arrow"), &field));
    same(&read_arrow(&at("out.arrow")));
    // The input is an Arrow file, and then an Arrow stream as `datasets` writes it.
    let mut file =
        FileWriter::try_new(File::create(at("a.feather")).unwrap(), &table.schema()).unwrap();
    file.write(&table).unwrap();
    file.finish().unwrap();
    let mut stream =
        StreamWriter::try_new(File::create(at("s.arrow")).unwrap(), &table.schema()).unwrap();
    for rows in [0..2, 2..5] {
        stream.write(&table.slice(rows.start, rows.len())).unwrap();
    }
    stream.finish().unwrap();
    for name in ["a.feather", "s.arrow"] {
        succeed(embed(&at(name), &at("out2.parquet"), &field));
        same(&read_parquet(&at("out2.parquet")));
    }
    // The output is JSON lines, without the columns that JSON lines cannot hold.
    let columns = ["--carry", "id,score,ok,when,category"];
    refuse(embed(&at("in.parquet"), &at("no.jsonl"), &field), &["--carry", "`lists`", "List"]);
    succeed(embed(&at("in.parquet"), &at("out.jsonl"), &[&field[..], &columns].concat()));
    let lines = std::fs::read_to_string(at("out.jsonl")).unwrap();
    let third = lines.lines().nth(2).unwrap();
    let start = "{\"index\":2,\"id\":9223372036854775807,\"score\":1000000000000000000";
    assert!(third.starts_with(start), "{third}");
    assert!(
        third.contains("\"when\":\"2023-11-14T22:13:20.123456\",\"category\":\"a\","),
        "{third}"
    );
    assert!(lines.lines().nth(1).unwrap().contains("\"score\":null,\"ok\":false,\"when\":null"));
    let rows = rows_of(lines.as_bytes()).into_iter().map(Some).collect::<Vec<_>>();
    assert_eq!(rows, expected);
}

#[test]
fn vectors_have_the_type_of_their_precision() {
    let directory = tempfile::tempdir().unwrap();
    let input = write(directory.path(), "in.txt", TEXTS.join("\n"));
    for precision in ["float32", "float16", "int8", "uint8", "binary", "ubinary"] {
        let [array, table, ipc] = ["npy", "parquet", "arrow"].map(|extension| {
            let out = directory.path().join(format!("{precision}.{extension}"));
            succeed(embed(&input, &out, &["--precision", precision, "--part-rows", "2"]));
            out
        });
        let (_, shape, bytes) = npy(&std::fs::read(array).unwrap());
        for batch in [read_parquet(&table), read_arrow(&ipc)] {
            let index = batch.column_by_name("index").unwrap().as_primitive::<Int64Type>();
            assert_eq!(index.values(), &[0, 1, 2, 3, 4]);
            let lists = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
            assert_eq!(lists.value_length() as usize, shape[1], "{precision}");
            let values = lists.values();
            let found: Vec<u8> = match precision {
                "float32" => {
                    bytemuck::cast_slice(values.as_primitive::<Float32Type>().values()).to_vec()
                }
                "float16" => {
                    bytemuck::cast_slice(values.as_primitive::<Float16Type>().values()).to_vec()
                }
                "int8" | "binary" => {
                    bytemuck::cast_slice(values.as_primitive::<Int8Type>().values()).to_vec()
                }
                _ => values.as_primitive::<UInt8Type>().values().to_vec(),
            };
            assert_eq!(found, bytes, "{precision}");
        }
    }
}

#[test]
fn a_row_without_a_text_fails_or_gets_null() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let texts = StringArray::from(vec![Some(TEXTS[0]), None, Some(TEXTS[2])]);
    let batch =
        RecordBatch::try_from_iter_with_nullable([("text", Arc::new(texts) as ArrayRef, true)]);
    let input = parquet_of(&at("in.parquet"), &batch.unwrap(), Compression::SNAPPY);
    refuse(embed(&input, &at("no.parquet"), &[]), &["in.parquet: row 2:", "null"]);
    for (name, precision) in [("out.parquet", "float32"), ("out8.parquet", "int8")] {
        succeed(embed(&input, &at(name), &["--on-error", "null", "--precision", precision]));
    }
    let expected = expected();
    let found = vectors::<Float32Type>(&read_parquet(&at("out.parquet")), "embedding");
    assert_eq!(found, [Some(expected[0].clone()), None, Some(expected[2].clone())]);
    let found = vectors::<Int8Type>(&read_parquet(&at("out8.parquet")), "embedding");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn json_objects_and_csv_become_columns() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let lines = "{\"text\":\"a\",\"n\":1,\"x\":1,\"t\":\"s\",\"b\":true,\"j\":[1]}\n\
                 {\"text\":\"b\",\"n\":2,\"x\":2.5,\"t\":null,\"b\":null,\"j\":{\"k\":\"v\"}}\n";
    let input = write(directory.path(), "in.jsonl", lines);
    succeed(embed(&input, &at("out.parquet"), &[]));
    let found = read_parquet(&at("out.parquet"));
    let types: Vec<DataType> =
        found.schema().fields().iter().map(|f| f.data_type().clone()).take(6).collect();
    use DataType::*;
    assert_eq!(types, [Utf8, Int64, Float64, Utf8, Boolean, Utf8]);
    assert_eq!(found.column(2).as_primitive::<Float64Type>().values(), &[1.0, 2.5]);
    assert_eq!(found.column(5).as_string::<i32>().value(1), "{\"k\":\"v\"}");
    let many = format!("{}{{\"text\":\"c\",\"n\":\"three\"}}\n", lines.repeat(600));
    let input = write(directory.path(), "many.jsonl", many);
    refuse(embed(&input, &at("no.parquet"), &[]), &["row 1201", "\"three\" in `n`", "an integer"]);
    let input = write(directory.path(), "in.csv", "text,n\na,1\nb,\n");
    succeed(embed(&input, &at("csv.parquet"), &[]));
    let found = read_parquet(&at("csv.parquet"));
    assert_eq!(
        found.column(1).as_string::<i32>().iter().collect::<Vec<_>>(),
        [Some("1"), Some("")]
    );
}

#[test]
fn broken_files_and_differing_columns_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let out = at("out.parquet");
    let field = ["--field", "body", "--carry", "id"];
    let input = parquet_of(&at("in.parquet"), &table(), Compression::SNAPPY);
    let bytes = std::fs::read(&input).unwrap();
    refuse(embed(&input, &out, &[]), &["in.parquet", "no column `text`", "`body`", "--field"]);
    refuse(
        embed(&input, &out, &["--field", "id"]),
        &["column `id` holds Int64, not text", "--field"],
    );
    for length in [0, 3, 40, bytes.len() - 9] {
        let cut = write(directory.path(), "cut.parquet", &bytes[..length]);
        refuse(embed(&cut, &out, &field), &["cut.parquet", "cannot be read as Parquet"]);
    }
    // The data is damaged at many places. The file must be refused, unless the damage is in a column that is not
    // read.
    for place in (4..bytes.len() - 8).step_by(bytes.len() / 12) {
        let mut broken = bytes.clone();
        broken[place..place + 6].copy_from_slice(b"\xff\x7f\xff\x80\x01\xff");
        let broken = write(directory.path(), "broken.parquet", broken);
        let output = embed(&broken, &out, &field).output().unwrap();
        match output.status.code() {
            Some(0) => std::fs::remove_file(&out).unwrap(),
            code => {
                assert_eq!(code, Some(2), "at {place}: {}", stderr(&output));
                assert!(stderr(&output).contains("broken.parquet"), "{}", stderr(&output));
            }
        }
        std::fs::remove_file(broken).unwrap();
        assert!(!out.exists() && !at("out.parquet.parts").exists());
    }
    let words = write(directory.path(), "words.arrow", "no arrow");
    refuse(embed(&words, &out, &field), &["words.arrow", "cannot be read as Arrow"]);
    std::fs::remove_file(words).unwrap();

    // All files of a directory must have the same carried columns.
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("body", DataType::Utf8, true),
    ]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["one"])), Arc::new(StringArray::from(vec!["a"]))];
    std::fs::remove_file(at("cut.parquet")).unwrap();
    let other = RecordBatch::try_new(schema, columns).unwrap();
    parquet_of(&at("other.parquet"), &other, Compression::SNAPPY);
    refuse(embed(directory.path(), &out, &field), &["`id`", "--carry"]);
    succeed(embed(directory.path(), &out, &["--field", "body", "--carry", "body"]));
    assert_eq!(read_parquet(&out).num_rows(), 6);
    let stdin = with_model_on_cpu("embed", ["-i", "-", "--input-format", "parquet"]);
    refuse(stdin, &["stdin", "files"]);
    let stdout = with_model_on_cpu("embed", ["a", "--format", "parquet"]);
    refuse(stdout, &["--format", "--output FILE"]);
}

#[test]
fn zstd_is_read_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let packed = zstd::encode_all(TEXTS.join("\n").as_bytes(), 3).unwrap();
    let input = write(directory.path(), "in.txt.zst", &packed);
    succeed(embed(&input, &at("out.jsonl.zst"), &["--part-rows", "2"]));
    let lines = zstd::decode_all(File::open(at("out.jsonl.zst")).unwrap()).unwrap();
    assert_eq!(rows_of(&lines), expected());
    let cut = write(directory.path(), "cut.txt.zst", &packed[..packed.len() - 3]);
    refuse(embed(&cut, &at("no.jsonl"), &[]), &["cut.txt.zst", "cannot be read"]);
}

/// Compares the rows per second of Parquet to Parquet with those of the library, in alternating rounds. The machine
/// must have no other work, so this is run by hand: `--release … -- --ignored --nocapture`.
#[test]
#[ignore = "needs a machine without other work"]
fn bulk_keeps_up_with_the_library() {
    if !have_adapter() {
        return;
    }
    use vectile::{Embedder, ModelFiles, block_on};
    let model = std::env::var("VECTILE_TEST_MODEL").unwrap();
    let rows = std::env::var("VECTILE_ROWS").map_or(2000, |rows| rows.parse().unwrap());
    let texts: Vec<String> =
        (0..rows).map(|i| format!("row {i} {}", "some words of it ".repeat(i * 7 % 13))).collect();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = |name: &str, texts: &[String]| {
        let column = Arc::new(StringArray::from_iter_values(texts)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        parquet_of(&at(name), &batch, Compression::SNAPPY)
    };
    let (few, all) = (input("few.parquet", &texts[..8]), input("all.parquet", &texts));
    let embedder = build(Embedder::builder(ModelFiles::from_directory(&model).unwrap())).unwrap();
    block_on(embedder.embed(&texts[..8])).unwrap();
    let seconds = |work: &dyn Fn()| {
        let started = std::time::Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    let run = |input: &Path| {
        let mut command = vectile();
        command.args(["embed", "--quiet", "--model"]).arg(&model);
        command.arg("--input").arg(input).arg("--output").arg(at("out.parquet"));
        succeed(command);
    };
    let mut ratios = Vec::new();
    for round in 0..5 {
        let library = seconds(&|| drop(block_on(embedder.embed(&texts)).unwrap()));
        // The time for starting the program and loading the model is subtracted.
        let (whole, start) = (seconds(&|| run(&all)), seconds(&|| run(&few)));
        let ratio = (library - seconds(&|| drop(block_on(embedder.embed(&texts[..8])).unwrap())))
            / (whole - start);
        eprintln!(
            "round {round}: library {library:.2} s, bulk {whole:.2} s of which start {start:.2} s: {ratio:.3}"
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    eprintln!("median {:.3}", ratios[2]);
    assert!(ratios[2] >= 0.95, "{ratios:?}");
}
