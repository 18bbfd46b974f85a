//! Chooses the texts of the next batch, so that each request gets a fair share of the batch's tokens. The choice
//! depends only on the function's arguments.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Returns, for each request in queue order, how many of its next texts go into a batch of `budget`
/// tokens. `waiting` holds the token counts of each request's remaining texts.
///
/// The next text comes from the request with the fewest tokens in this batch so far. If two requests tie,
/// the earlier one is chosen. A request of one text is thus in the next batch, however many texts other
/// requests have. A request whose next text does not fit gets no more texts into this batch. The first
/// request always gets a text into the batch. A text longer than the budget runs alone.
pub(crate) fn share(waiting: &[&[usize]], budget: usize) -> Vec<usize> {
    let mut taken = vec![0; waiting.len()];
    let mut turns: BinaryHeap<Reverse<(usize, usize)>> = waiting
        .iter()
        .enumerate()
        .filter(|(_, texts)| !texts.is_empty())
        .map(|(request, _)| Reverse((0, request)))
        .collect();
    let mut used = 0;
    while let Some(Reverse((share, request))) = turns.pop() {
        let text = waiting[request][taken[request]];
        if used > 0 && used + text > budget {
            continue;
        }
        used += text;
        taken[request] += 1;
        if taken[request] < waiting[request].len() {
            turns.push(Reverse((share + text, request)));
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_request_does_not_wait_behind_a_large_one() {
        let (large, small) = (vec![10; 2000], vec![10]);
        assert_eq!(share(&[&large, &small], 100), [9, 1]);
        assert_eq!(share(&[&large, &small, &large], 100), [5, 1, 4]);
    }

    #[test]
    fn shares_count_tokens_and_not_texts() {
        let (short, long) = (vec![1; 100], vec![10; 100]);
        assert_eq!(share(&[&short, &long], 40), [20, 2]);
    }

    #[test]
    fn a_text_that_does_not_fit_waits_unless_it_is_the_first() {
        assert_eq!(share(&[&[90], &[50, 1], &[10]], 100), [1, 0, 1]);
        assert_eq!(share(&[&[500], &[1]], 100), [1, 0]);
        assert_eq!(share(&[&[500, 1], &[1]], 1000), [2, 1]);
        assert_eq!(share(&[&[], &[500]], 100), [0, 1]);
        assert_eq!(share(&[], 100), Vec::<usize>::new());
    }

    /// The texts of static models may have no tokens. Even then the function must return, and not loop for ever.
    #[test]
    fn texts_without_tokens_all_fit() {
        assert_eq!(share(&[&[0, 0, 0], &[100]], 100), [3, 1]);
    }

    proptest! {
        #[test]
        fn batches_keep_to_the_budget_and_shares_are_fair(
            waiting in prop::collection::vec(prop::collection::vec(0_usize..300, 0..20), 0..12),
            budget in 1_usize..1000,
        ) {
            let slices: Vec<&[usize]> = waiting.iter().map(Vec::as_slice).collect();
            let taken = share(&slices, budget);
            let share_of =
                |request: usize| waiting[request][..taken[request]].iter().sum::<usize>();
            let used: usize = (0..taken.len()).map(share_of).sum();
            let texts: usize = taken.iter().sum();
            prop_assert!(used <= budget || texts - waiting.iter().zip(&taken)
                .flat_map(|(w, t)| &w[..*t]).filter(|tokens| **tokens == 0).count() == 1);
            if let Some(first) = waiting.iter().position(|texts| !texts.is_empty()) {
                prop_assert!(taken[first] > 0);
            }
            for (request, texts) in waiting.iter().enumerate() {
                // If a request has texts left, its next text did not fit into the unused part of the batch.
                if let Some(next) = texts.get(taken[request]) {
                    prop_assert!(used + next > budget);
                    // No other request got many more tokens than this one: another share, without its last text,
                    // exceeds this share by at most 600 tokens. 600 is the sum of two maxima: 300 tokens for a text,
                    // and 300 for the unused part of the batch.
                    for other in 0..taken.len() {
                        if let Some(last) = taken[other].checked_sub(1) {
                            let before = share_of(other) - waiting[other][last];
                            prop_assert!(before <= share_of(request) + 600);
                        }
                    }
                }
            }
        }
    }
}
