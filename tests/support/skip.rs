//! Skips tests loudly: a test that lacks something says so. It fails if the environment says that the thing must be
//! there.

/// Whether the environment variable `variable` is set.
pub fn must_have(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// Says on stderr that a test is skipped, and why. Fails if the environment variable `variable` is set, because this
/// machine must then have the missing thing.
#[track_caller]
pub fn skip(variable: &str, missing: &str) {
    assert!(!must_have(variable), "{variable} is set, so nothing may be skipped, but: {missing}");
    eprintln!("SKIPPED: {missing}");
}

/// Says on stderr that the rest of a test is skipped, because this adapter or system lacks something optional.
pub fn lacks(missing: &str) {
    eprintln!("SKIPPED: {missing}");
}
