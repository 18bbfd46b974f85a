//! Makes the driver return wrong rows, and checks which of them are noticed. A wrong row whose length is 1 is not
//! noticed.

use std::sync::Arc;

use vectile::gpu::inject::{FaultPlan, WrongAnswer};
use vectile::{Error, block_on};

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
