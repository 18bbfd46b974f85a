//! `embed` from files to files: carried columns, text formats, and interrupted runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::*;

/// `embed` with the usual fixture.
fn embed(inputs: &[&Path], output: &Path, args: &[&str]) -> Command {
    let mut command = with_model("embed", args);
    for input in inputs {
        command.arg("--input").arg(input);
    }
    command.arg("--output").arg(output);
    command
}

/// The vectors of texts, embedded in one run from a file of one text per line.
fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.txt", texts.join("\n") + "\n");
    rows_of(&succeed(with_model("embed", ["-i".as_ref(), file.as_os_str()])).stdout)
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
    if !have_adapter() {
        return;
    }
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
    refuse(taken, &["row 1 of the input", "field `id` already", "--embedding-column", "--carry"]);
    assert!(!at("taken.jsonl").exists());
}

#[test]
fn csv_is_read_and_written() {
    if !have_adapter() {
        return;
    }
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
    // Other formats have the same content.
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
    refused(&["--column", "body", "--embedding-column", "id"], &["column `id` already"]);
    let ragged = write(directory.path(), "ragged.csv", "text\na\nb,c\n");
    refuse(embed(&[&ragged], &at("no.csv"), &[]), &["ragged.csv: line 3", "2 values"]);
    assert!(!at("no.csv").exists());
}

#[test]
fn the_first_objects_decide_the_columns() {
    if !have_adapter() {
        return;
    }
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
    if !have_adapter() {
        return;
    }
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
    if !have_adapter() {
        return;
    }
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
    // The output is not an input, although it is in the same directory.
    assert_eq!(read(&[&inputs]), expected);
    assert_eq!(read(&[&inputs]), expected);
    assert_eq!(read(&[&inputs.join("*.txt")]), expected[..2]);
    let (a, b) = (inputs.join("a.txt"), inputs.join("b.txt"));
    assert_eq!(read(&[&b, &a, &b]), [&expected[1..2], &expected[..1], &expected[1..2]].concat());
    let none = directory.path().join("none");
    std::fs::create_dir(&none).unwrap();
    refuse(embed(&[&none], &out, &[]), &["none", "the directory has no .txt"]);
    refuse(embed(&[&none.join("*.jsonl")], &out, &[]), &["no file matches"]);
    refuse(
        embed(&[&a, Path::new("-")], &out, &[]),
        &["stdin", "cannot be combined with other inputs"],
    );
    let objects = write(directory.path(), "d.jsonl", "{\"text\":\"d\"}\n");
    refuse(embed(&[&a, &objects], &out, &[]), &["d.jsonl", "another format", "a.txt"]);
    // Errors name the file.
    let bad = write(&inputs, "more/d.txt", b"good\n\xff\n");
    refuse(embed(&[&inputs], &out, &[]), &["d.txt: line 2", "UTF-8"]);
    std::fs::remove_file(bad).unwrap();
}

#[test]
fn a_failed_row_stops_the_run_or_gets_null() {
    if !have_adapter() {
        return;
    }
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
    for words in ["in.jsonl: line 2:", "in.jsonl: line 3:", "in.jsonl: line 4:", "3 of 5 rows"] {
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
    // Ranges come from the rows that have vectors.
    let args = [&args[..], &["--precision", "uint8"]].concat();
    succeed(embed(&[&input], &at("out8.jsonl"), &args));
    let lines = std::fs::read_to_string(at("out8.jsonl")).unwrap();
    assert_eq!(lines.matches("\"embedding\":null").count(), 3);
    let args = ["--on-error", "null"];
    refuse(embed(&[&input], &at("no.npy"), &args), &["--on-error null", "NumPy"]);
}

/// Texts of many lengths.
fn corpus(directory: &Path, rows: usize) -> PathBuf {
    let line = |i: usize| {
        let words = "some words of a text ".repeat(i * 7 % 5);
        format!("{{\"id\":{i},\"text\":\"row {i} {words}\"}}\n")
    };
    write(directory, "in.jsonl", (0..rows).map(line).collect::<String>())
}

/// Kills a command at random moments, the given number of times, then lets it finish.
fn kill_at_random(
    command: impl Fn() -> Command,
    times: usize,
    seed: u64,
    took: std::time::Duration,
) {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    for _ in 0..times {
        let mut child = command().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(random()));
        // On Unix this is SIGKILL. A run that ended before has completed the output.
        let _ = child.kill();
        child.wait().unwrap();
    }
    succeed(command());
}

#[test]
fn a_killed_run_resumes_to_byte_identical_output() {
    if !have_adapter() {
        return;
    }
    // VECTILE_KILLS sets another number of kills.
    let times = std::env::var("VECTILE_KILLS").map_or(4, |times| times.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = corpus(directory.path(), 3000);
    let mut sorts = vec![("jsonl.gz", "float32"), ("npy", "int8")];
    if cfg!(feature = "bulk") {
        sorts.extend([("parquet", "float32"), ("arrow", "float16")]);
    }
    for (seed, (extension, precision)) in sorts.into_iter().enumerate() {
        let (whole, killed) =
            (at(&format!("whole.{extension}")), at(&format!("killed.{extension}")));
        let command = |output: &Path, more: &[&str]| {
            let args = [&["--part-rows", "100", "--precision", precision, "-q"], more].concat();
            embed(&[&input], output, &args)
        };
        let started = std::time::Instant::now();
        succeed(command(&whole, &[]));
        let took = started.elapsed();
        kill_at_random(|| command(&killed, &["--resume"]), times, seed as u64 + 1, took);
        let same = std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap();
        assert!(same, "{extension} {precision}");
        assert!(!names(directory.path()).iter().any(|name| name.contains(".part")));
    }
}

/// Starts a command and sends it a signal when this many parts of its output are complete.
#[cfg(unix)]
fn end_after_parts(
    mut command: Command,
    output: &Path,
    parts: usize,
    signal: &str,
) -> (i32, String) {
    let journal = PathBuf::from(format!("{}.parts/journal.jsonl", output.display()));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    let complete = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    while complete() < parts {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was interrupted");
        assert!(started.elapsed().as_secs() < 300, "no parts");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), stderr(&output))
}

#[cfg(unix)]
#[test]
fn a_run_resumes_only_with_the_same_settings() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let input = corpus(directory.path(), 6000);
    let (whole, out) = (directory.path().join("whole.jsonl"), directory.path().join("out.jsonl"));
    let run = |output: &Path, more: &[&str]| {
        embed(&[&input], output, &[&["--part-rows", "50"], more].concat())
    };
    let (code, said) = end_after_parts(run(&out, &[]), &out, 2, "-INT");
    assert_eq!(code, 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("interrupted after") && last.contains("--resume"), "{said}");
    assert!(last.contains("out.jsonl.parts") && !out.exists(), "{said}");
    assert_eq!(names(directory.path()), ["in.jsonl", "out.jsonl.parts"]);

    refuse(run(&out, &[]), &["out.jsonl.parts", "rows", "--resume", "remove the directory"]);
    fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["--resume"], args].concat()
    }
    for (args, words) in [
        (with(&["--normalize"]), vec!["options"]),
        (with(&["--precision", "float16"]), vec!["output_precision", "float32", "float16"]),
        (with(&["--carry", "id"]), vec!["carry was"]),
        (with(&["--embedding-column", "v"]), vec!["embedding_column", "\"v\""]),
        (with(&["--dtype", "bfloat16"]), vec!["precision", "bf16"]),
        (with(&["--field", "id"]), vec!["field"]),
    ] {
        let words = [&["--resume", "other settings"], words.as_slice()].concat();
        refuse(run(&out, &args), &words);
    }
    // From here on rows may fail, but none does.
    let lenient = end_after_parts(run(&out, &["--resume", "--on-error", "null"]), &out, 4, "-KILL");
    assert_eq!(lenient.0, -1, "{}", lenient.1);
    let resumed = succeed(run(&out, &["--resume"]));
    assert!(stderr(&resumed).contains("resumed after"), "{}", stderr(&resumed));
    succeed(run(&whole, &["--resume"]));
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&out).unwrap());
    assert_eq!(names(directory.path()), ["in.jsonl", "out.jsonl", "whole.jsonl"]);

    // An input that has changed is refused.
    end_after_parts(run(&out, &[]), &out, 1, "-KILL");
    let lines = std::fs::read_to_string(&input).unwrap();
    std::fs::write(&input, lines + "{\"text\":\"one more\"}\n").unwrap();
    refuse(run(&out, &["--resume"]), &["other settings", "input was", "bytes"]);
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&out).unwrap());
}

#[cfg(unix)]
#[test]
fn failed_rows_are_not_resumed_with_on_error_fail() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (corpus(directory.path(), 6000), directory.path().join("out.jsonl"));
    let lines = std::fs::read_to_string(&input).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.insert(120, "{\"text\": null}");
    std::fs::write(&input, lines.join("\n")).unwrap();
    let run = |more: &[&str]| embed(&[&input], &out, &[&["--part-rows", "50"], more].concat());
    refuse(run(&["--on-error", "fail"]), &["in.jsonl: line 121"]);
    let (code, said) = end_after_parts(run(&["--resume", "--on-error", "null"]), &out, 4, "-KILL");
    assert_eq!(code, -1, "{said}");
    let refused = ["on_error was", "null", "fail"];
    refuse(run(&["--resume", "--on-error", "fail"]), &refused);
    let resumed = succeed(run(&["--resume", "--on-error", "null"]));
    assert!(stderr(&resumed).contains("1 of 6001 rows have no vector"), "{}", stderr(&resumed));
}

#[cfg(unix)]
#[test]
fn two_runs_cannot_share_an_output() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (corpus(directory.path(), 6000), directory.path().join("out.jsonl"));
    let run = || embed(&[&input], &out, &["--part-rows", "50", "--resume", "-q"]);
    let mut first = run().spawn().unwrap();
    let parts = directory.path().join("out.jsonl.parts/lock");
    while !parts.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    refuse(run(), &["out.jsonl.parts", "another vectile process"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn only_runs_from_files_to_a_file_can_be_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "a.txt", "a\n");
    let out = directory.path().join("out.jsonl");
    refuse(
        embed(&[Path::new("-")], &out, &["--resume"]),
        &["--resume", "needs --input FILE and --output FILE"],
    );
    refuse(
        embed(&[&file], Path::new("-"), &["--resume"]),
        &["--resume", "needs --input FILE and --output FILE"],
    );
    refuse(embed(&[&file], &out, &["--carry", "id"]), &["--carry", "no columns"]);
    refuse(
        embed(&[&file], &directory.path().join("a.npy"), &["--carry", "id"]),
        &["--carry", "NumPy"],
    );
    assert_eq!(names(directory.path()), ["a.txt"]);
}

/// Runs a command under a limit on file sizes, in blocks of 512 bytes, like on a full disk.
#[cfg(unix)]
fn limited(command: Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_file() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = corpus(directory.path(), 900);
    let mut outputs = vec!["out.jsonl", "out.npy", "out.jsonl.gz"];
    if cfg!(feature = "bulk") {
        outputs.extend(["out.parquet", "out.arrow"]);
    }
    for name in outputs {
        // The first part does not fit.
        let command = limited(embed(&[&input], &at(name), &["-q"]), 64);
        refuse(command, &[&format!("{name}.parts"), "cannot be written"]);
        assert_eq!(names(directory.path()), ["in.jsonl"], "{name}");
        // The parts fit, but the whole output does not.
        let small = ["--part-rows", "100", "-q", "--carry", "none"];
        let command = limited(embed(&[&input], &at(name), &small), 200);
        refuse(command, &[&format!("{name}.part"), "cannot be written"]);
        assert_eq!(names(directory.path()), ["in.jsonl", &format!("{name}.parts")], "{name}");
        succeed(embed(&[&input], &at(name), &[&small[..], &["--resume"]].concat()));
        std::fs::remove_file(at(name)).unwrap();
        assert_eq!(names(directory.path()), ["in.jsonl"], "{name}");
    }
    if Path::new("/dev/full").exists() {
        refuse(
            embed(&[&input], Path::new("/dev/full"), &["-q"]),
            &["/dev/full", "cannot be written"],
        );
    }
}
