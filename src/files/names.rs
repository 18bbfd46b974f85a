//! Checks and normalises the file names that occur in a model.

use crate::error::Error;

/// The maximum length of a name in bytes. Names in published models have fewer than a hundred bytes.
const MAX_NAME: usize = 1024;

/// Returns the name in its normal spelling, which has forward slashes and neither `.` nor empty components.
///
/// Names come from files inside the model and are not trusted. If a name could refer to a file outside the model on one
/// operating system, it is refused on all systems. A model therefore loads on all systems or on none.
pub(crate) fn normalise(name: &str) -> Result<String, Error> {
    let refuse = |problem: &str| {
        let shown: String = name.chars().take(120).flat_map(char::escape_debug).collect();
        Err(Error::file(
            shown,
            format!("{problem}; use a name relative to the model, like \"1_Pooling/config.json\""),
        ))
    };
    if name.len() > MAX_NAME {
        return refuse("the file name is too long");
    }
    if name.chars().any(char::is_control) {
        return refuse("the file name contains a control character");
    }
    if name.contains('\\') {
        return refuse("the file name contains a backslash");
    }
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return refuse("the file name is absolute");
    }
    let parts: Vec<&str> =
        name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("the file name leaves the model's directory through `..`");
    }
    if parts.is_empty() {
        return refuse("the file name is empty");
    }
    Ok(parts.join("/"))
}
