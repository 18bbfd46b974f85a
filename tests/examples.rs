//! Runs every program of `examples/` as a reader would, on the test model that it uses by default.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the tests call `run`; `main` only passes it the arguments")]

#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/f16_or_f32.rs"]
mod f16_or_f32;
#[path = "../examples/from_bytes.rs"]
mod from_bytes;
#[path = "../examples/rerank.rs"]
mod rerank;
#[path = "../examples/search.rs"]
mod search;
#[cfg(feature = "server")]
#[path = "../examples/server.rs"]
mod server;
mod support;

macro_rules! examples_run {
    ($($(#[$condition:meta])? $name:ident),* $(,)?) => {$(
        $(#[$condition])?
        #[test]
        fn $name() {
            if have_adapter() {
                crate::$name::run(None).unwrap();
            }
        }
    )*};
}

mod runs {
    use crate::support::have_adapter;

    examples_run!(
        embed,
        f16_or_f32,
        from_bytes,
        rerank,
        search,
        #[cfg(feature = "server")]
        server
    );

    #[test]
    fn every_example_is_in_the_list() {
        let entries = std::fs::read_dir("examples").unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned)).collect();
        names.sort();
        assert_eq!(names, ["embed", "f16_or_f32", "from_bytes", "rerank", "search", "server"]);
    }
}
