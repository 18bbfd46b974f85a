//! How much may wait: a bounded budget, taken whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A budget of tokens, or of bytes, that requests take their parts of.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The budget has not enough left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// What is in use.
    pub used: usize,
    /// What may be in use.
    pub limit: usize,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    amount: usize,
}

/// What a request of `size` is charged: at most a quarter of the budget, so that a request of any size can
/// be accepted, and leaves room for others. Shares of batches are fair, so that they do not wait for all of
/// it.
fn price(size: usize, limit: usize) -> usize {
    size.min(limit.div_ceil(4))
}

impl Budget {
    /// A budget of `limit`, at least 1.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit: limit.max(1), used: AtomicUsize::new(0) })
    }

    /// What is in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// What may be in use.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes the price of a request of `size`, or nothing.
    pub fn admit(self: &Arc<Self>, size: usize) -> Result<Charge, Full> {
        let mut charge = Charge { budget: self.clone(), amount: 0 };
        charge.adjust(size)?;
        Ok(charge)
    }
}

impl Charge {
    /// Changes the request's size. Where the budget has not enough left, the charge stays as it was.
    pub fn adjust(&mut self, size: usize) -> Result<(), Full> {
        let Budget { limit, used } = &*self.budget;
        let (limit, old, new) = (*limit, self.amount, price(size, *limit));
        let change = |used: usize| {
            let changed = used - old + new;
            (new <= old || changed <= limit).then_some(changed)
        };
        match used.try_update(Ordering::SeqCst, Ordering::SeqCst, change) {
            Ok(_) => {
                self.amount = new;
                Ok(())
            }
            Err(used) => Err(Full { used, limit }),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::SeqCst);
    }
}

/// When to try again, where `used` tokens wait and `rate` are done a second: when half of them are
/// done. Never so soon that clients only knock, nor so late that they forget.
pub(crate) fn retry_after(used: usize, rate: Option<f64>) -> Duration {
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
    match rate {
        Some(rate) if rate > 0.0 => {
            let seconds = (used as f64 / 2.0 / rate).min(most.as_secs_f64());
            Duration::from_secs_f64(seconds).max(least)
        }
        _ => Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_admitted_whole_or_not_at_all() {
        let budget = Budget::new(100);
        let held: Vec<Charge> = (0..4).map(|_| budget.admit(23).unwrap()).collect();
        assert_eq!(budget.admit(9).unwrap_err(), Full { used: 92, limit: 100 });
        assert_eq!(budget.used(), 92);
        let fitting = budget.admit(8).unwrap();
        assert_eq!(budget.used(), 100);
        drop((held, fitting));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_request_larger_than_the_budget_is_admitted_and_leaves_room() {
        let budget = Budget::new(101);
        let _large = [1_000_000, 500, usize::MAX].map(|size| budget.admit(size).unwrap());
        assert_eq!(budget.used(), 78);
        assert_eq!(budget.admit(usize::MAX).unwrap_err(), Full { used: 78, limit: 101 });
        let _small = budget.admit(23).unwrap();
        assert!(budget.admit(1).is_err());
        assert!(budget.admit(0).is_ok());
    }

    #[test]
    fn an_estimate_becomes_the_size() {
        let budget = Budget::new(100);
        let mut charge = budget.admit(10).unwrap();
        charge.adjust(20).unwrap();
        assert_eq!(budget.used(), 20);
        charge.adjust(5).unwrap();
        let _others: Vec<Charge> = (0..3).map(|_| budget.admit(30).unwrap()).collect();
        charge.adjust(25).unwrap();
        charge.adjust(5).unwrap();
        let _fourth = budget.admit(15).unwrap();
        assert!(charge.adjust(11).is_err());
        assert_eq!(budget.used(), 95);
        drop(charge);
        assert_eq!(budget.used(), 90);
    }

    #[test]
    fn threads_never_pass_the_limit_together() {
        let budget = Budget::new(16);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let charge = budget.admit(4);
                        assert!(budget.used() <= 16);
                        drop(charge);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn clients_are_told_a_time_between_50_ms_and_a_minute() {
        assert_eq!(retry_after(1000, Some(1000.0)), Duration::from_millis(500));
        assert_eq!(retry_after(1, Some(1e9)), Duration::from_millis(50));
        assert_eq!(retry_after(usize::MAX, Some(1e-300)), Duration::from_secs(60));
        assert_eq!(retry_after(1000, Some(0.0)), Duration::from_secs(1));
        assert_eq!(retry_after(1000, None), Duration::from_secs(1));
    }
}
