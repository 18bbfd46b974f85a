//! Which texts go into the next batch: fair shares of tokens, a pure function.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// For each request, in the order they take turns, how many of its next texts go into a batch of
/// `budget` tokens. `waiting` has the tokens of each request's texts that are left.
///
/// The request that has had the fewest tokens of this batch is next, of equals the earlier: a request
/// of one text is in the next batch whatever number of texts others have. A request whose next text
/// does not fit has had its share. The first request is always served, a text longer than the budget
/// alone.
pub(crate) fn share(waiting: &[&[usize]], budget: usize) -> Vec<usize> {
    let mut taken = vec![0; waiting.len()];
    let mut turns: BinaryHeap<Reverse<(usize, usize)>> = waiting
        .iter()
        .enumerate()
        .filter(|(_, texts)| !texts.is_empty())
        .map(|(place, _)| Reverse((0, place)))
        .collect();
    let mut used = 0;
    while let Some(Reverse((had, place))) = turns.pop() {
        let text = waiting[place][taken[place]];
        if used > 0 && used + text > budget {
            continue;
        }
        used += text;
        taken[place] += 1;
        if taken[place] < waiting[place].len() {
            turns.push(Reverse((had + text, place)));
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_request_is_not_behind_a_large_one() {
        let (large, small) = (vec![10; 2000], vec![10]);
        assert_eq!(share(&[&large, &small], 100), [9, 1]);
        assert_eq!(share(&[&large, &small, &large], 100), [5, 1, 4]);
    }

    #[test]
    fn shares_are_of_tokens_and_not_of_texts() {
        let (short, long) = (vec![1; 100], vec![10; 100]);
        assert_eq!(share(&[&short, &long], 40), [20, 2]);
    }

    #[test]
    fn a_text_that_does_not_fit_waits_and_the_first_never_does() {
        assert_eq!(share(&[&[90], &[50, 1], &[10]], 100), [1, 0, 1]);
        assert_eq!(share(&[&[500], &[1]], 100), [1, 0]);
        assert_eq!(share(&[&[500, 1], &[1]], 1000), [2, 1]);
        assert_eq!(share(&[&[], &[500]], 100), [0, 1]);
        assert_eq!(share(&[], 100), Vec::<usize>::new());
    }

    /// Texts without tokens, which static models have, end too.
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
            let had = |place: usize| waiting[place][..taken[place]].iter().sum::<usize>();
            let used: usize = (0..taken.len()).map(had).sum();
            let texts: usize = taken.iter().sum();
            prop_assert!(used <= budget || texts - waiting.iter().zip(&taken)
                .flat_map(|(w, t)| &w[..*t]).filter(|tokens| **tokens == 0).count() == 1);
            if let Some(first) = waiting.iter().position(|texts| !texts.is_empty()) {
                prop_assert!(taken[first] > 0);
            }
            for (place, texts) in waiting.iter().enumerate() {
                // What is left of it did not fit in the end.
                if let Some(next) = texts.get(taken[place]) {
                    prop_assert!(used + next > budget);
                    // Nobody had much more before that: a text, and what then was left of the batch.
                    for other in 0..taken.len() {
                        if let Some(last) = taken[other].checked_sub(1) {
                            prop_assert!(had(other) - waiting[other][last] <= had(place) + 600);
                        }
                    }
                }
            }
        }
    }
}
