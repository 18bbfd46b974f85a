//! The fuzz targets. Each turns bytes into an input of the library, runs the library on it, and panics if a promise of
//! the library is broken. fuzz/README.md lists the targets and their promises.
//!
//! These files are part of the crate only in tests and in builds of cargo-fuzz (`cfg(fuzzing)`). A target therefore
//! sees private functions, and the library exports nothing for fuzzing. The tests replay every input in `fuzz/corpus`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target fails by panicking"
)]

mod config;
mod edits;
#[cfg(feature = "server")]
mod http;
mod index;
#[cfg(test)]
mod replay;
mod tokenizer;
mod weights;
mod wgsl;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Panics if the library breaks a promise on the input.
pub type Target = fn(&[u8]);

#[cfg(all(fuzzing, feature = "bulk"))]
pub use crate::cli::fuzzing::input;
pub use config::config;
#[cfg(feature = "server")]
pub use http::http;
pub use index::index;
pub use tokenizer::tokenizer;
pub use weights::weights;
pub use wgsl::wgsl;

/// Runs a target under libFuzzer, and aborts the process if the target panics.
///
/// The hook of `libfuzzer_sys` aborts at every panic. This function replaces that hook, because the library catches
/// panics of some dependencies and returns an error instead.
pub fn run(target: Target, data: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("no message");
        eprintln!("the target panicked: {text}");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    macro_rules! replays {
        ($($(#[$attribute:meta])* $target:ident: $test:ident,)*) => { $(
            $(#[$attribute])*
            #[test]
            fn $test() {
                replay(stringify!($target), super::$target);
            }
        )* };
    }

    replays! {
        config: every_input_of_config_keeps_the_promises,
        #[cfg(feature = "server")]
        http: every_input_of_http_keeps_the_promises,
        index: every_input_of_index_keeps_the_promises,
        tokenizer: every_input_of_tokenizer_keeps_the_promises,
        weights: every_input_of_weights_keeps_the_promises,
        wgsl: every_input_of_wgsl_keeps_the_promises,
    }
}
