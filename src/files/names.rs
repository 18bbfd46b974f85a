//! Which file names a model may use.

use crate::error::Error;

/// The longest name looked up. Real ones stay under a hundred bytes.
const MAX_NAME: usize = 1024;

/// The name in one spelling: forward slashes, no `.` and no empty components.
///
/// Names come from files inside the model, so everything that could leave it on any system is
/// refused everywhere: a model that loads on Linux must load on Windows too.
pub(crate) fn normalise(name: &str) -> Result<String, Error> {
    let refuse = |problem: &str| {
        let shown: String = name.chars().take(120).flat_map(char::escape_debug).collect();
        Err(Error::file(
            shown,
            format!("{problem}; names are relative to the model, like \"1_Pooling/config.json\""),
        ))
    };
    if name.len() > MAX_NAME {
        return refuse("the file name is too long");
    }
    if name.chars().any(char::is_control) {
        return refuse("the file name holds a control character");
    }
    if name.contains('\\') {
        return refuse("the file name holds a backslash");
    }
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return refuse("the file name is absolute");
    }
    let parts: Vec<&str> =
        name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("the file name leaves the model with `..`");
    }
    if parts.is_empty() {
        return refuse("the file name is empty");
    }
    Ok(parts.join("/"))
}
