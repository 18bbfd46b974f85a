//! Makes the driver return wrong rows, and checks which of them are noticed. A wrong row whose length is 1 is not
//! noticed, unless the rows are computed a second time.

use std::num::NonZeroUsize;
use std::sync::Arc;

use vectile::gpu::inject::{FaultPlan, WrongAnswer};
use vectile::{Error, TextModel, block_on};

use crate::builder;
use crate::support::{build, lacks_shaders};

#[test]
fn wrong_answers_are_noticed_unless_each_row_still_has_length_one() {
    if lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    let Some(embedder) = build(builder("bert_mean_norm").inject(plan.clone())) else { return };
    let texts = ["a cat sat", "on the roof"];
    let expected = block_on(embedder.embed(&texts)).unwrap();
    let cases = [
        (WrongAnswer::ZeroRows, true),
        (WrongAnswer::NotANumber, true),
        (WrongAnswer::ZeroBytes, true),
        (WrongAnswer::StaleBytes, true),
        (WrongAnswer::FlippedBit(30), true),
        (WrongAnswer::StaleRows, false),
        (WrongAnswer::ExchangedRows, false),
        (WrongAnswer::FlippedBit(31), false),
        (WrongAnswer::FlippedBit(0), false),
    ];
    for (wrong, noticed) in cases {
        // The batch before the test has the same shape, but different rows.
        block_on(embedder.embed(&["on the roof", "a cat sat"])).unwrap();
        plan.answer_wrongly(Some(wrong));
        let result = block_on(embedder.embed(&texts));
        plan.answer_wrongly(None);
        eprintln!("{wrong:?}: {:?}", result.as_ref().map(|_| "not noticed"));
        match result {
            Ok(rows) => {
                assert!(!noticed, "{wrong:?} is not noticed");
                // The caller really gets the wrong answer.
                assert_ne!(rows.values, expected.values, "{wrong:?}");
            }
            Err(error) => {
                assert!(noticed, "{wrong:?}: {error}");
                let named = matches!(error, Error::DeviceFault { .. } | Error::NonFinite { .. });
                assert!(named, "{wrong:?}: {error:?}");
            }
        }
        assert_eq!(block_on(embedder.embed(&texts)).unwrap().values, expected.values, "{wrong:?}");
    }
    let flips = (0..32).filter(|bit| {
        plan.answer_wrongly(Some(WrongAnswer::FlippedBit(*bit)));
        let noticed = block_on(embedder.embed(&texts)).is_err();
        plan.answer_wrongly(None);
        noticed
    });
    eprintln!("noticed flips of a bit: {:?}", flips.collect::<Vec<u32>>());
}

/// The wrong answers that the checks of every batch do not notice.
const UNNOTICED: [WrongAnswer; 5] = [
    WrongAnswer::StaleRows,
    WrongAnswer::ExchangedRows,
    WrongAnswer::FlippedBit(31),
    WrongAnswer::FlippedBit(16),
    WrongAnswer::FlippedBit(0),
];

#[test]
fn every_wrong_answer_is_noticed_if_all_rows_are_computed_again() {
    if lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    let paranoid = builder("bert_mean_norm").inject(plan.clone()).paranoid(NonZeroUsize::MIN);
    let Some(embedder) = build(paranoid) else { return };
    let texts = ["a cat sat", "on the roof", "and the dog", "ran away"];
    let expected = block_on(embedder.embed(&texts)).unwrap();
    for wrong in UNNOTICED {
        block_on(embedder.embed(&["on the roof", "a cat sat", "ran away", "and the dog"])).unwrap();
        plan.answer_wrongly(Some(wrong));
        let result = block_on(embedder.embed(&texts));
        plan.answer_wrongly(None);
        let Err(Error::WrongRow { adapter, text, distance, .. }) = &result else {
            panic!("{wrong:?}: {result:?}");
        };
        eprintln!("{wrong:?}: {}", result.as_ref().unwrap_err());
        assert_eq!(*adapter, embedder.adapter().name);
        assert!(*text < texts.len() && *distance > 0.0, "{wrong:?}: {text} {distance}");
        assert_eq!(block_on(embedder.embed(&texts)).unwrap().values, expected.values, "{wrong:?}");
    }
    let found = embedder.rechecked().unwrap();
    eprintln!("{found}");
    assert_eq!(found.rows, found.checked);
    assert!(found.largest_distance < 1e-5, "{found}");
}

/// The wrong answers last: the second computation of a row is answered wrongly too.
#[test]
fn a_lasting_wrong_answer_is_noticed_after_some_batches_of_samples() {
    if lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    let every = NonZeroUsize::new(64).unwrap();
    let paranoid = builder("bert_mean_norm").inject(plan.clone()).paranoid(every);
    let Some(embedder) = build(paranoid) else { return };
    let texts: Vec<String> = (0..40).map(|at| format!("text {at} on the roof")).collect();
    for wrong in UNNOTICED {
        let (mut noticed, batches) = (0, 60);
        for batch in 0..batches {
            let mut texts = texts.clone();
            texts.rotate_left(batch % 40);
            plan.answer_wrongly(Some(wrong));
            noticed += usize::from(block_on(embedder.embed(&texts)).is_err());
            plan.answer_wrongly(None);
        }
        eprintln!("{wrong:?}: noticed in {noticed} of {batches} batches of 40 texts");
        assert!(noticed > 0, "{wrong:?}");
    }
}
