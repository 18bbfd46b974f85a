//! Tests dialects of CSV and TSV from public reports: quotation marks, escapes and delimiters.

use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// Makes the command `embed` for a file with this content.
fn embed(name: &str, content: &str, args: &[&str]) -> (Command, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), name, content);
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--quiet").arg("--input").arg(file);
    (command, directory)
}

/// Returns the values of a column, as they are carried to JSON lines. Every row must have a vector.
fn column(name: &str, content: &str, field: &str, args: &[&str]) -> Vec<String> {
    let args = [&["--field", field], args].concat();
    let (command, _directory) = embed(name, content, &args);
    let output = stdout(&succeed(command));
    let value = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["embedding"].as_array().unwrap().len(), 48);
        row[field].as_str().unwrap().to_owned()
    };
    output.lines().map(value).collect()
}

fn refused(name: &str, content: &str, args: &[&str], words: &[&str]) {
    let (command, _directory) = embed(name, content, args);
    refuse(command, words);
}

const NOTES: &str = "id\ttext\n1\tthe first note\n2\t\"quoted start without an end\n3\tthe third note\n\
                     4\ta fourth \"inner\" quote\n5\tfifth with an end\"\n6\tthe last note\n";

#[test]
fn tsv_has_no_quotation_marks() {
    let expected = [
        "the first note",
        "\"quoted start without an end",
        "the third note",
        "a fourth \"inner\" quote",
        "fifth with an end\"",
        "the last note",
    ];
    assert_eq!(column("notes.tsv", NOTES, "text", &[]), expected);
    // A quote is never closed, as in pandas-dev/pandas#39857, where rows are lost without an error.
    let mut open = "id\ttext\n1\tfine\n2\t\"a quotation that is never closed\n".to_owned();
    (3..=200).for_each(|i| open += &format!("{i}\tnote number {i}\n"));
    let found = column("open_quote.tsv", &open, "text", &[]);
    assert_eq!((found.len(), found[1].as_str()), (200, "\"a quotation that is never closed"));
    // See pandas-dev/pandas#22661: "does not read lines with … leading quotes but not matching close quotes".
    let rows = "n\tword\tx\n3\tabc\t5.6\n4\t\"abc\"\t4.3\n5\t\"error\t3.3\n";
    assert_eq!(column("a.tsv", rows, "word", &[]), ["abc", "\"abc\"", "\"error"]);
    // See pola-rs/polars#22312: "Error while reading TSV with quote inside the value".
    let rows = "subject\ttitle\njava\tLorem ipsum dolor sit\npython\t\"Lorem Ipsum\" dolor sit";
    let expected = ["Lorem ipsum dolor sit", "\"Lorem Ipsum\" dolor sit"];
    assert_eq!(column("b.tsv", rows, "title", &[]), expected);
    // See rewicks/ersatz#1: "Columns with unbalanced quotes" smash lines together.
    let rows = "id\tlang\ttext\n1\ten\t\"He left.\n2\ten\tShe said: \"go\n3\ten\tthen\" again\n";
    let expected = ["\"He left.", "She said: \"go", "then\" again"];
    assert_eq!(column("c.tsv", rows, "text", &[]), expected);
    // With --quote, a TSV file has quotation marks: see adaltas/node-csv-parse#323.
    let rows = "col1\tcol2\nval1\t\"val \"\" 2\"\n";
    assert_eq!(column("d.tsv", rows, "col2", &["--quote", "\""]), ["val \" 2"]);
    // If a row needs --quote, the error of that row says so.
    let rows = "id\ttext\n1\t\"two\nlines\"\n";
    refused("e.tsv", rows, &[], &["e.tsv: line 3", "1 values", "--quote '\"'"]);
    assert_eq!(column("e.tsv", rows, "text", &["--quote", "\""]), ["two\nlines"]);
}

#[test]
fn tsv_output_is_read_back_unchanged() {
    let (mut command, directory) = embed("notes.tsv", NOTES, &[]);
    let out = directory.path().join("out.tsv");
    command.arg("--output").arg(&out);
    succeed(command);
    let written = std::fs::read_to_string(&out).unwrap();
    assert!(written.contains("\n2\t\"quoted start without an end\t["), "{written}");
    let texts = column("again.tsv", &written, "text", &["--carry", "text"]);
    assert_eq!(texts, column("notes.tsv", NOTES, "text", &[]));
    // If a value would break a line apart, it is refused.
    for text in ["a\\tb", "a\\nb", "a\\rb"] {
        let line = format!("{{\"text\":\"fine\"}}\n{{\"text\":\"{text}\"}}\n");
        let (mut command, directory) = embed("in.jsonl", &line, &[]);
        command.arg("--output").arg(directory.path().join("out.tsv"));
        refuse(command, &["row 2 of the input", "`text`", "TSV", "--carry all,-text"]);
    }
}

#[test]
fn the_delimiter_is_found_or_asked_for() {
    let semicolon = "\u{feff}id;text\r\n1;Straße und Café\r\n2;zweiter Text\r\n";
    assert_eq!(column("a.csv", semicolon, "text", &[]), ["Straße und Café", "zweiter Text"]);
    assert_eq!(column("b.csv", "sep=;\r\nid;text\r\n1;one\r\n", "text", &[]), ["one"]);
    // See mechatroner/vscode_rainbow_csv#108, about `sep=` in the first line.
    let rows = "sep=|\nOne|Two|Three|Four\n1|2|3|4\n5|6|7|8\n";
    assert_eq!(column("c.csv", rows, "Two", &[]), ["2", "6"]);
    // See jakob/TableTool#34, about a semicolon-separated file that was taken for a comma-separated one.
    let rows = "Duration;Phase\n6:30;First developer\n1:00;Wash 1\n";
    assert_eq!(column("d.csv", rows, "Phase", &[]), ["First developer", "Wash 1"]);
    // See dathere/datapusher-plus#256: "Failing to detect separator for semicolon separated file".
    let rows = "date;temperature;place\n2011-01-01;1;Galway\n2011-01-01;6;Berkeley\n";
    assert_eq!(column("e.csv", rows, "place", &[]), ["Galway", "Berkeley"]);
    // See mechatroner/vscode_rainbow_csv#134, about commas inside values and semicolons between values.
    let rows = "day;text\nApril 15, 2023;Ray\nApril 14, 2023;Scott\n";
    assert_eq!(column("f.csv", rows, "text", &[]), ["Ray", "Scott"]);
    let rows = "name^text\na^b;c\n";
    assert_eq!(column("g.csv", rows, "text", &["--delimiter", "^"]), ["b;c"]);
    let rows = "id\ttext\n1\ta, b\n";
    assert_eq!(column("h.csv", rows, "text", &["--delimiter", "tab"]), ["a, b"]);
    refused("i.csv", "a;b|c\n1;2|3\n", &[], &["i.csv", "`;` and `|`", "--delimiter"]);
    let several = "id;text;price, EUR\n1;a;2\n";
    refused("j.csv", several, &[], &["no column `text`", "--delimiter ';'"]);
    refused("k.tsv", "id,text\n1,a\n", &[], &["no column `text`", "--delimiter ','"]);
    // The line numbers in errors count the line of `sep=` too.
    refused("l.csv", "sep=;\nid;text\n1;a\n2\n", &[], &["l.csv: line 4", "1 values"]);
}

#[test]
fn quotes_escaped_by_backslashes_are_read_with_escape_and_noticed_without() {
    // See pola-rs/polars#3074: "Using escape_char from pandas along with quote_char".
    let users = "username,identifier,name\nbooker12,9012,\"sean,\\\"Jeff\"\ngrey07,2070,\"Laura, Grey\"\n\
                 johnson81,4081,\"\\\"Chill\\\"\"\njenkins46,9346,\"Mary, Jenkins\"\n\
                 smith79,5079,\"Jamie, \\\"Smith\\\"\"\n";
    let names = ["sean,\"Jeff", "Laura, Grey", "\"Chill\"", "Mary, Jenkins", "Jamie, \"Smith\""];
    // See pola-rs/polars#15022: "Unmatched escaped quotes in CSV rows lead to concatenated rows".
    let rows = "name,text\na1,\"text with \\\" escaped quote\"\nb2,where did I go\nc3,\"also \\\" missing\"\n\
                d4, the fourth item\n";
    let texts =
        ["text with \" escaped quote", "where did I go", "also \" missing", " the fourth item"];
    // See freelawproject/courtlistener#6706, about exports of PostgreSQL with ESCAPE '\'.
    let html = "id,html\n1,\"<a href=\\\"#\\\" data-x=\\\"1,2\\\">link</a>\"\n";
    let links = ["<a href=\"#\" data-x=\"1,2\">link</a>"];
    for (content, field, expected) in
        [(users, "name", &names[..]), (rows, "text", &texts[..]), (html, "html", &links[..])]
    {
        let args = ["--field", field];
        refused("a.csv", content, &args, &["a.csv: line 2:", "backslash", "--escape '\\'"]);
        assert_eq!(column("a.csv", content, field, &["--escape", "\\"]), expected);
    }
    // If the quote seems to close before a delimiter, the number of values reveals the mistake.
    let rows = "id,text\n1,\"a\\\",b\"\n";
    refused("b.csv", rows, &[], &["b.csv: line 2:", "3 values", "--escape '\\'"]);
    assert_eq!(column("b.csv", rows, "text", &["--escape", "\\"]), ["a\",b"]);
}

#[test]
fn a_quote_that_merges_rows_is_an_error_with_its_line() {
    let open = "id,text\n1,a\n2,\"never closed\n3,b\n4,c\n";
    let words = ["a.csv: line 3:", "not closed before the end of the file", "--quote none"];
    refused("a.csv", open, &[], &words);
    let expected = ["a", "\"never closed", "b", "c"];
    assert_eq!(column("a.csv", open, "text", &["--quote", "none"]), expected);
    // The error is the same if the quote is in the header, or if another quote closes it.
    refused("b.csv", "id,\"text\n1,a\n", &[], &["b.csv: line 1:", "not closed"]);
    let merged = "id,text\n1,\"open\n2,a \"quoted\" word\n";
    refused("c.csv", merged, &[], &["c.csv: line 2:", "closes on line 3", "--quote none"]);
    // The error is reported even if failed rows are allowed.
    refused("d.csv", open, &["--on-error", "null"], &["d.csv: line 3:", "not closed"]);
    // Correct quotes may span several lines.
    let lines = "id,text\n1,\"two\nlines, \"\"quoted\"\"\"\n2,b\n";
    assert_eq!(column("e.csv", lines, "text", &[]), ["two\nlines, \"quoted\"", "b"]);
    let single = "id,text\n1,'a, b'\n2,it is \"c\"\n";
    assert_eq!(column("f.csv", single, "text", &["--quote", "'"]), ["a, b", "it is \"c\""]);
}

#[test]
fn options_of_csv_are_refused_where_they_do_not_apply() {
    for (args, words) in [
        (["--delimiter", ";"], "--delimiter"),
        (["--quote", "none"], "--quote"),
        (["--escape", "\\"], "--escape"),
    ] {
        refused("a.txt", "a\n", &args, &[words, "one text per line", "--input-format csv"]);
        refused("a.jsonl", "{\"text\":\"a\"}\n", &args, &[words, "JSON lines"]);
    }
    refused("a.tsv", "text\na\n", &["--escape", "\\"], &["--escape", "--quote"]);
    let args = ["--delimiter", ";", "--quote", ";"];
    refused("a.csv", "text\na\n", &args, &["`;`", "--quote"]);
    for (args, words) in [
        (["--delimiter", ";;"], ["--delimiter", "ASCII"]),
        (["--delimiter", "ä"], ["--delimiter", "ASCII"]),
        (["--quote", "\n"], ["--quote", "none"]),
        (["--escape", ""], ["--escape", "ASCII"]),
    ] {
        refuse_arguments(embed("a.csv", "text\na\n", &args).0, &words);
    }
}
