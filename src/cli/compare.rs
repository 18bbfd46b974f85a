//! `vectile bench --compare`: compares the reports of several runs of `vectile bench`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use vectile::lab::compare::{Comparison, Value};
use vectile::lab::report::Report;

use super::failure::Failure;
use super::report_file::{self, is_stdout};
use super::stdout::{print, to_json};
use super::table::{number_table, text_table};

/// Reads the reports and prints the figures that all of them contain, and how these figures differ.
pub fn run(files: &[PathBuf], json: Option<&Path>) -> Result<(), Failure> {
    let reports: Vec<(String, Report)> = files
        .iter()
        .map(|path| Ok((path.display().to_string(), read(path)?)))
        .collect::<Result<_, Failure>>()?;
    let comparison = Comparison::of(&reports).map_err(Failure::user)?;
    if let Some(path) = json {
        report_file::write(path, &(to_json(&comparison)? + "\n"))?;
    }
    match json.is_some_and(is_stdout) {
        true => Ok(()),
        false => print(&text(&comparison)),
    }
}

fn read(path: &Path) -> Result<Report, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file(path, "read", &e))?;
    Report::from_json(&bytes)
        .map_err(|problem| Failure::user(format!("{}: {problem}", path.display())))
}

fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    for warning in &comparison.warnings {
        // Writing to a string cannot fail, so the result is ignored.
        let _ = writeln!(out, "note: {warning}");
    }
    let header = |first: &str| {
        let mut header = vec![first.to_owned()];
        header.extend(comparison.runs.iter().cloned());
        header
    };
    if !comparison.differences.is_empty() {
        let mut table = text_table(header("difference"));
        for difference in &comparison.differences {
            let mut row = vec![difference.what.clone()];
            row.extend(difference.values.iter().cloned());
            table.add_row(row);
        }
        let _ = writeln!(out, "{table}\n");
    }
    let mut last_group = None;
    let mut table = None;
    for row in &comparison.rows {
        let group = (&row.adapter, &row.precision);
        if last_group != Some(group) {
            if let Some(table) = table.take() {
                let _ = writeln!(out, "{table}\n");
            }
            let _ = writeln!(out, "{}, {}", row.precision, row.adapter);
            last_group = Some(group);
        }
        let table = table.get_or_insert_with(|| number_table(header("")));
        let mut cells = vec![row.what.clone()];
        cells.extend(row.values.iter().map(|value| cell(&row.what, value.as_ref())));
        table.add_row(cells);
    }
    if let Some(table) = table {
        let _ = writeln!(out, "{table}");
    }
    let _ = writeln!(
        out,
        "A ratio of 2.00× means twice as good as in {}. The minimum and maximum over all pairs of \
         rounds are in parentheses.",
        comparison.runs[0]
    );
    out
}

fn cell(what: &str, value: Option<&Value>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let number = match value.value {
        v if what.contains("cosine") => format!("{v:.7}"),
        v if what.contains("Spearman") => format!("{v:.4}"),
        v if v < 100.0 => format!("{v:.2}"),
        v => format!("{v:.0}"),
    };
    let Some(ratio) = value.ratio else { return number };
    match value.beyond_spread {
        None => format!("{number}  {:.2}×", ratio.median),
        Some(beyond) => format!(
            "{number}  {:.2}× ({:.2}–{:.2}){}",
            ratio.median,
            ratio.low,
            ratio.high,
            if beyond { "" } else { " within the spread" }
        ),
    }
}
