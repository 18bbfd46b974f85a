//! Tests that the load compiles all pipelines, so that the first batch compiles none.

use pollster::block_on;

use super::skip::skip;
use super::tests;
use crate::embedder::{Embedder, TextModel};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterChoice;

#[test]
fn the_first_batch_finds_its_pipelines_compiled() {
    for name in ["fixtures/bert_mean_norm", "fixtures/families/modernbert"] {
        let files = ModelFiles::from_directory(tests(name)).unwrap();
        let embedder = match block_on(Embedder::builder(files).adapter(AdapterChoice::Gpu).build())
        {
            Ok(embedder) => embedder,
            Err(Error::Adapter { adapter, problem }) if adapter == "none" => {
                return skip("VECTILE_REQUIRE_ADAPTER", &problem);
            }
            Err(error) => panic!("{error}"),
        };
        // The debug text of an executor ends with the number of pipelines.
        let executor = || format!("{:?}", block_on(embedder.runner().runtime.lock()).executor);
        let loaded = executor();
        assert!(!loaded.ends_with(" 0 pipelines)"), "{loaded}");
        let long = "words and more ".repeat(20);
        for texts in [&["A text."][..], &[long.as_str(), "Another.", ""]] {
            block_on(embedder.embed(texts)).unwrap();
        }
        assert_eq!(executor(), loaded, "{name}");
    }
}
