//! Expands each `--input` to files. An input is a file, a directory with files, or a pattern that matches files.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::format_of;
use crate::cli::args::InputFormat;
use crate::cli::failure::Failure;

/// Returns the files of `inputs` in the given order. The files of a directory or pattern are sorted by name, without
/// `output` and its temporary files.
pub fn expand(inputs: &[PathBuf], output: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for input in inputs {
        let name = input.display();
        if input == Path::new("-") && inputs.len() > 1 {
            let sentence = "--input: `-` (stdin) cannot be combined with other inputs";
            return Err(Failure::user(sentence));
        }
        if input.is_dir() {
            let before = files.len();
            list_directory(input, output, &mut files)?;
            if files.len() == before {
                return Err(Failure::user(format!(
                    "{name}: is a directory without .txt, .jsonl, .csv, .tsv, .parquet or .arrow files"
                )));
            }
        } else if !input.exists() && is_pattern(input) {
            let before = files.len();
            find_matches(input, output, &mut files)?;
            if files.len() == before {
                return Err(Failure::user(format!("{name}: no file matches this pattern")));
            }
        } else {
            files.push(input.clone());
        }
    }
    Ok(files)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn find_matches(pattern: &Path, output: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let name = pattern.display();
    let Some(text) = pattern.to_str() else {
        return Err(Failure::user(format!(
            "{name}: the pattern is not UTF-8; give files or a directory instead"
        )));
    };
    // With this option, `*` does not match hidden files, as in a shell.
    let rules = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let found = glob::glob_with(text, rules).map_err(|e| Failure::user(format!("{name}: {e}")))?;
    for path in found {
        let path = path.map_err(|e| Failure::file(e.path(), "read", e.error()))?;
        if path.is_file() && !is_output(&path, output) {
            files.push(path);
        }
    }
    Ok(())
}

/// Adds to `files` the files of a directory and of its subdirectories, if their extensions say that they hold texts.
///
/// Skips hidden files, names that start with `_` (marker files of other programs), and links to directories.
fn list_directory(
    directory: &Path,
    output: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file(directory, "read", &e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        entries.push((entry.path(), entry.file_type().map_err(failed)?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, kind) in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) || is_output(&path, output) {
            continue;
        }
        if kind.is_dir() {
            list_directory(&path, output, files)?;
        } else if holds_texts(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns true if the extension of a file in a directory says that the file holds texts. A file of plain text must
/// have the extension .txt here. A file that the user names may have any extension.
fn holds_texts(path: &Path) -> bool {
    match format_of(path) {
        Some(InputFormat::Txt) => {
            let name = path.to_string_lossy().to_ascii_lowercase();
            [".txt", ".txt.gz", ".txt.zst"].iter().any(|end| name.ends_with(end))
        }
        // In directories of data sets, .json files hold metadata more often than texts.
        Some(InputFormat::Json) => false,
        format => format.is_some(),
    }
}

/// Returns true if a path is the output, or a temporary file of the output.
fn is_output(path: &Path, output: &Path) -> bool {
    let (Some(name), Some(output_name)) = (path.file_name(), output.file_name()) else {
        return false;
    };
    let (name, output_name) = (name.to_string_lossy(), output_name.to_string_lossy());
    let same_name = name == output_name
        || ["parts", "part"].iter().any(|end| name == format!("{output_name}.{end}"));
    let directory = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.canonicalize(),
        _ => Path::new(".").canonicalize(),
    };
    same_name && matches!((directory(path), directory(output)), (Ok(a), Ok(b)) if a == b)
}
