//! Finds the programs that some tests need.

use std::path::PathBuf;

use super::skip::skip;

/// Returns the first program with one of these names on the `PATH`.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path)
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    programs.find(|program| program.is_file())
}

/// Returns the path of Chromium. If there is none, returns `None` and prints that a test is skipped, or panics if
/// `VECTILE_REQUIRE_CHROMIUM` is set.
#[track_caller]
pub fn chromium() -> Option<PathBuf> {
    let found = on_path(&["chromium", "chromium-browser", "google-chrome"]);
    if found.is_none() {
        skip("VECTILE_REQUIRE_CHROMIUM", "there is no Chromium on this machine");
    }
    found
}
