//! Tests the queue and its thread. Here a text is a number, and its row is twice that number.

mod simulation;

use std::sync::Arc;

use super::*;

type Numbers = Queue<Arc<usize>, usize>;

fn submit(queue: &Numbers, texts: &[usize]) -> oneshot::Receiver<Answer<usize>> {
    queue.submit(texts.iter().map(|text| Arc::new(*text)).collect(), texts.to_vec(), None)
}

fn taken(queue: &Numbers) -> Vec<usize> {
    queue.take().into_iter().map(|(text, _)| *text).collect()
}

/// Replaces the GPU: doubles each number, and fails for some numbers in the ways in which a GPU can fail.
fn double(
    more: &mut dyn FnMut() -> Vec<Arc<usize>>,
    take: &mut dyn FnMut(Result<usize, Error>),
) -> Result<(), Error> {
    loop {
        let texts = more();
        if texts.is_empty() {
            return Ok(());
        }
        for text in texts {
            match *text {
                404 => take(Err(Error::NonFinite { text: 0, problem: "404".into() })),
                500 => return Err(Error::Internal("500".into())),
                501 => panic!("501"),
                503 => return Err(out_of_memory()),
                number => take(Ok(number * 2)),
            }
        }
    }
}

fn out_of_memory() -> Error {
    let (adapter, what, advice) = (String::new(), String::new(), String::new());
    Error::OutOfMemory { adapter, what, bytes: 0, advice }
}

#[test]
fn requests_without_a_share_come_first_in_the_next_batch() {
    let queue = Numbers::new(100);
    let _first = submit(&queue, &[60, 60]);
    let _second = submit(&queue, &[50]);
    let _third = submit(&queue, &[40, 41]);
    assert_eq!(queue.depth(), Depth { requests: 3, texts: 5, tokens: 251 });
    assert_eq!(taken(&queue), [60, 40]);
    assert_eq!(taken(&queue), [50, 41]);
    assert_eq!(taken(&queue), [60]);
    assert_eq!(queue.depth(), Depth::default());
    assert!(taken(&queue).is_empty());
}

#[test]
fn a_request_whose_client_disconnected_is_skipped() {
    let queue = Numbers::new(100);
    let budget = Budget::new(100);
    let leaving = queue.submit(vec![Arc::new(1), Arc::new(2)], vec![1, 2], budget.admit(3).ok());
    let _stays = submit(&queue, &[3]);
    assert_eq!(budget.used(), 3);
    drop(leaving);
    assert_eq!(taken(&queue), [3]);
    assert_eq!((queue.dropped(), budget.used()), (2, 0));
}

#[test]
fn rows_go_back_to_their_requests_in_order() {
    let queue = Arc::new(Numbers::new(7));
    let mut answers = Vec::new();
    for request in 1..20 {
        let texts: Vec<usize> = (0..request).map(|text| text % 5 + request % 3).collect();
        answers.push((submit(&queue, &texts), texts));
    }
    queue.close();
    let progress = Progress::new();
    work(&queue, &progress, double);
    for (answer, texts) in answers {
        let rows: Vec<usize> =
            answer.blocking_recv().unwrap().rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows, texts.iter().map(|text| text * 2).collect::<Vec<_>>());
    }
    assert!(progress.without_row().is_none() && progress.last_row().is_some());
    assert!(progress.rate().is_some());
}

#[test]
fn a_failing_text_does_not_affect_other_texts() {
    for failing in [404, 503] {
        let queue = Numbers::new(10_000);
        let bad = submit(&queue, &[1, failing, 2]);
        let good = submit(&queue, &[3, 4]);
        queue.close();
        work(&queue, &Progress::new(), double);
        let good = good.blocking_recv().unwrap();
        assert_eq!(good.rows, [Ok(6), Ok(8)]);
        let rows = bad.blocking_recv().unwrap().rows;
        assert_eq!((&rows[0], &rows[2]), (&Ok(2), &Ok(4)), "{failing}");
        assert!(rows[1].is_err());
    }
}

#[test]
fn a_failing_run_fails_the_texts_it_took_and_the_thread_continues() {
    for failing in [500, 501] {
        let queue = Numbers::new(10_000);
        let bad = submit(&queue, &[failing]);
        let beside = submit(&queue, &[1, 2]);
        queue.close();
        work(&queue, &Progress::new(), double);
        assert!(bad.blocking_recv().unwrap().rows[0].is_err());
        let rows = beside.blocking_recv().unwrap().rows;
        assert!(rows.iter().any(Result::is_err), "{failing}");

        let queue = Numbers::new(600);
        let (bad, later) = (submit(&queue, &[failing]), submit(&queue, &[500 - 100]));
        queue.close();
        work(&queue, &Progress::new(), double);
        assert!(bad.blocking_recv().unwrap().rows[0].is_err());
        assert_eq!(later.blocking_recv().unwrap().rows, [Ok(800)]);
    }
}

#[test]
fn a_charge_is_returned_before_the_answer_is_sent() {
    let queue = Arc::new(Numbers::new(100));
    let budget = Budget::new(10);
    let thread = {
        let queue = queue.clone();
        std::thread::spawn(move || work(&queue, &Progress::new(), double))
    };
    for _ in 0..1000 {
        assert_eq!(budget.used(), 0, "the charge of an answered request is returned");
        let charge = budget.admit(10).unwrap();
        let answer = queue.submit(vec![Arc::new(10)], vec![10], Some(charge));
        assert_eq!(answer.blocking_recv().unwrap().rows, [Ok(20)]);
    }
    queue.close();
    thread.join().unwrap();
}

#[test]
fn a_closed_queue_takes_no_requests_and_answers_waiting_ones() {
    let queue = Numbers::new(100);
    let waits = submit(&queue, &[1]);
    queue.close();
    let late = submit(&queue, &[2]);
    work(&queue, &Progress::new(), double);
    assert_eq!(waits.blocking_recv().unwrap().rows, [Ok(2)]);
    assert!(late.blocking_recv().is_err());
    assert!(submit(&queue, &[]).blocking_recv().unwrap().rows.is_empty());
}

/// Many threads submit requests and drop every third one. All other requests are answered, and the budget
/// is fully returned.
#[test]
fn every_request_is_answered_across_threads() {
    let queue = Arc::new(Numbers::new(50));
    let budget = Budget::new(1_000_000);
    let thread = {
        let queue = queue.clone();
        std::thread::spawn(move || work(&queue, &Progress::new(), double))
    };
    std::thread::scope(|scope| {
        for client in 0..4_usize {
            let (queue, budget) = (&queue, &budget);
            scope.spawn(move || {
                for round in 0..200_usize {
                    let texts: Vec<usize> = (1..1 + (client + round) % 7).collect();
                    let held = texts.iter().map(|text| Arc::new(*text)).collect();
                    let charge = budget.admit(texts.iter().sum()).ok();
                    let answer = queue.submit(held, texts.clone(), charge);
                    if round % 3 == 0 {
                        continue;
                    }
                    let rows = answer.blocking_recv().unwrap().rows;
                    assert_eq!(rows, texts.iter().map(|text| Ok(text * 2)).collect::<Vec<_>>());
                }
            });
        }
    });
    queue.close();
    thread.join().unwrap();
    assert_eq!(budget.used(), 0);
}
