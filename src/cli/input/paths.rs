//! The files that an input names: itself, those of a directory, or those that a pattern finds.

use std::fs;
use std::path::{Path, PathBuf};

use super::format::format_of;
use crate::cli::args::InputFormat;
use crate::cli::failure::Failure;

/// The files of `inputs`, in the order given, those of a directory or pattern by name. Left out of those is
/// `output` with what belongs to it.
pub fn expand(inputs: &[PathBuf], output: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for input in inputs {
        let name = input.display();
        if input == Path::new("-") && inputs.len() > 1 {
            let sentence = "--input: `-`, which is stdin, goes with no other input";
            return Err(Failure::user(sentence));
        }
        if input.is_dir() {
            let before = files.len();
            list(input, output, &mut files)?;
            if files.len() == before {
                return Err(Failure::user(format!(
                    "{name}: is a directory without texts; .txt, .jsonl, .csv, .tsv, .parquet and \
                     .arrow files are looked for"
                )));
            }
        } else if !input.exists() && is_pattern(input) {
            let before = files.len();
            find(input, output, &mut files)?;
            if files.len() == before {
                return Err(Failure::user(format!("{name}: no file is called like this")));
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

fn find(pattern: &Path, output: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let name = pattern.display();
    let Some(text) = pattern.to_str() else {
        return Err(Failure::user(format!("{name}: a pattern must be UTF-8")));
    };
    // Hidden files are not meant.
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

/// Files that hold texts by their name, those of directories within too. Hidden ones, and those that start
/// with `_` as the marks of other programs do, are passed over, and so are links to directories.
fn list(directory: &Path, output: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
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
            list(&path, output, files)?;
        } else if holds_texts(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// What has no name of its own for texts is not taken from a directory.
fn holds_texts(path: &Path) -> bool {
    match format_of(path) {
        Some(InputFormat::Txt) => {
            let name = path.to_string_lossy().to_ascii_lowercase();
            [".txt", ".txt.gz", ".txt.zst"].iter().any(|end| name.ends_with(end))
        }
        format => format.is_some(),
    }
}

fn is_output(path: &Path, output: &Path) -> bool {
    let (Some(name), Some(made)) = (path.file_name(), output.file_name()) else { return false };
    let (name, made) = (name.to_string_lossy(), made.to_string_lossy());
    let mine = name == made || ["parts", "part"].iter().any(|end| name == format!("{made}.{end}"));
    let directory = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.canonicalize(),
        _ => Path::new(".").canonicalize(),
    };
    mine && matches!((directory(path), directory(output)), (Ok(a), Ok(b)) if a == b)
}
