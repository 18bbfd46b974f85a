//! Finds the columns of a table by name.

use std::sync::Arc;

use super::chunk::ReadOptions;
use crate::cli::args::DEFAULT_FIELD;
use crate::cli::carried::Carry;
use crate::cli::failure::Failure;

/// A column that is copied to the output: its index in the table and its name.
#[derive(Debug, Clone)]
pub struct NamedColumn {
    pub index: usize,
    pub name: Arc<str>,
}

/// Returns the index of the column that holds the texts.
pub fn text_column(file: &str, names: &[Arc<str>], field: &str) -> Result<usize, Failure> {
    let mut found = names.iter().enumerate().filter(|(_, name)| &***name == field);
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => {
            Err(Failure::user(format!("{file}: has several columns named `{field}`; rename them")))
        }
        (None, _) => Err(Failure::user(format!(
            "{file}: has no column `{field}`, only {}; name the column of the texts with --field",
            list(names)
        ))),
    }
}

/// Returns the index of the column that holds the texts, like [`text_column`]. The result is `None` if the input has a
/// column of vectors but no column with the default name for texts.
pub fn text_beside_vectors(
    file: &str,
    names: &[Arc<str>],
    options: &ReadOptions,
) -> Result<Option<usize>, Failure> {
    let field = &options.field;
    let Some(vectors) = &options.vectors else {
        return text_column(file, names, field).map(Some);
    };
    let has = |column: &str| names.iter().any(|name| **name == *column);
    match (has(&vectors.name), has(field)) {
        (true, false) if field == DEFAULT_FIELD => Ok(None),
        (false, _) if vectors.required => Err(Failure::user(format!(
            "{file}: has no column `{}`, only {}; name the column of the vectors with --embedding-column",
            vectors.name,
            list(names)
        ))),
        (false, false) => Err(Failure::user(format!(
            "{file}: has neither a column `{}` of vectors nor a column `{field}` of texts, only {}; name one of \
             them with --embedding-column or --field",
            vectors.name,
            list(names)
        ))),
        _ => text_column(file, names, field).map(Some),
    }
}

/// Returns the columns that `carry` selects.
pub fn carried_columns(
    file: &str,
    names: &[Arc<str>],
    carry: &Carry,
) -> Result<Vec<NamedColumn>, Failure> {
    if let Some(missing) = carry.names().iter().find(|name| !names.iter().any(|n| **n == ***name)) {
        return Err(Failure::user(format!(
            "--carry: {file} has no column `{missing}`, only {}",
            list(names)
        )));
    }
    let carried: Vec<NamedColumn> = (0..)
        .zip(names)
        .filter(|(_, name)| carry.takes(name))
        .map(|(index, name)| NamedColumn { index, name: name.clone() })
        .collect();
    for (at, column) in carried.iter().enumerate() {
        if carried[..at].iter().any(|earlier| earlier.name == column.name) {
            return Err(Failure::user(format!(
                "{file}: has several columns named `{}`; rename them, or leave them out with --carry",
                column.name
            )));
        }
    }
    Ok(carried)
}

/// Returns the first few names as a quoted list, for messages.
fn list(names: &[Arc<str>]) -> String {
    const SHOWN: usize = 12;
    let mut list =
        names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        list.push_str(", …");
    }
    list
}
