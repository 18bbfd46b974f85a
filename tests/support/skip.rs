//! Skips tests with a message. If a test lacks something, it prints this; it fails if an environment variable requires
//! the missing thing.

/// Returns true if the environment variable `variable` is set.
pub fn must_have(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// Prints on stderr that a test is skipped, with the reason. Panics if the environment variable `variable` is set,
/// because it requires the missing thing.
#[track_caller]
pub fn skip(variable: &str, missing: &str) {
    assert!(!must_have(variable), "{variable} is set, so nothing may be skipped, but: {missing}");
    eprintln!("SKIPPED: {missing}");
}

/// Prints on stderr that the remaining part of a test is skipped, because this adapter or system lacks something
/// optional.
pub fn lacks(missing: &str) {
    eprintln!("SKIPPED: {missing}");
}
