//! Programs that some tests need.

use std::path::PathBuf;

use super::skip::skip;

/// The first program of these names on the `PATH`.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path)
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    programs.find(|program| program.is_file())
}

/// Chromium, or `None` with a loud skip. Fails where `VECTILE_REQUIRE_CHROMIUM` says that there is one.
#[track_caller]
pub fn chromium() -> Option<PathBuf> {
    let found = on_path(&["chromium", "chromium-browser", "google-chrome"]);
    if found.is_none() {
        skip("VECTILE_REQUIRE_CHROMIUM", "there is no Chromium on this machine");
    }
    found
}
