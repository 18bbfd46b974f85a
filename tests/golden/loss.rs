//! A lost device is opened again, and vectors afterwards have the bits they had before.

use vectile::block_on;

use crate::{build, builder, texts};

#[test]
fn vectors_after_a_loss_are_those_before() {
    let Some(embedder) = build(builder("bert_dense")) else { return };
    let texts = texts("bert_dense");
    let before = block_on(embedder.embed(&texts)).unwrap();
    for _ in 0..5 {
        block_on(embedder.lose_device());
        assert_eq!(block_on(embedder.embed(&texts)).unwrap(), before);
    }
}
