//! Tests that rows after the loss of a device are bit-identical to the rows before the loss.

use vectile::block_on;

use crate::builder;
use crate::support::{build, texts};

#[test]
fn rows_after_a_loss_are_bit_identical() {
    let Some(embedder) = build(builder("bert_dense")) else { return };
    let texts = texts("bert_dense");
    let before = block_on(embedder.embed(&texts)).unwrap();
    for _ in 0..5 {
        block_on(embedder.lose_device());
        assert_eq!(block_on(embedder.embed(&texts)).unwrap(), before);
    }
}

#[test]
fn concurrent_calls_survive_a_loss() {
    let Some(embedder) = build(builder("bert_dense").batch_tokens(16)) else { return };
    let texts = texts("bert_dense");
    let expected = block_on(embedder.embed(&texts)).unwrap();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| (0..4).map(|_| block_on(embedder.embed(&texts))).collect::<Vec<_>>())
            })
            .collect();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(150));
            block_on(embedder.lose_device());
        }
        for call in calls {
            for embeddings in call.join().unwrap() {
                match embeddings {
                    Ok(embeddings) => assert_eq!(embeddings, expected),
                    // A batch is repeated only once. Three losses may hit the same batch, and the call then fails.
                    Err(error) => {
                        assert!(matches!(error, vectile::Error::DeviceLost { .. }), "{error}")
                    }
                }
            }
        }
    });
    assert_eq!(block_on(embedder.embed(&texts)).unwrap(), expected);
}

#[test]
fn batches_too_large_for_memory_are_halved_with_bit_identical_rows() {
    let Some(whole) = build(builder("bert_dense")) else { return };
    let texts = texts("bert_dense");
    let expected = block_on(whole.embed(&texts)).unwrap();
    let longest = whole.tokenize(&texts, &Default::default()).unwrap();
    let longest = longest.iter().map(Vec::len).max().unwrap();
    assert_eq!(expected.halved, 0);

    let embedder = build(builder("bert_dense").fit_tokens(longest)).unwrap();
    let embeddings = block_on(embedder.embed(&texts)).unwrap();
    assert!(embeddings.halved > 0);
    assert_eq!(embeddings.values, expected.values);
    // Later calls start with the smaller batches, so they halve none.
    assert_eq!(block_on(embedder.embed(&texts)).unwrap().halved, 0);

    let tight = build(builder("bert_dense").fit_tokens(longest - 1)).unwrap();
    match block_on(tight.embed(&texts)) {
        Err(vectile::Error::OutOfMemory { .. }) => {}
        other => panic!("{other:?}"),
    }
}
