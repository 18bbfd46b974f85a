//! Admits requests until a budget is used up. A request is either charged to the budget completely, or refused.

use std::sync::Arc;
use std::time::Duration;

use super::sync::{AtomicUsize, Ordering};

/// A budget in tokens or bytes, to which requests are charged.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The error for a request that needs more than the unused part of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// The amount of the budget in use.
    pub used: usize,
    /// The size of the whole budget.
    pub limit: usize,
}

/// An amount charged to a [`Budget`]. When the charge is dropped, the amount returns to the budget.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    amount: usize,
}

/// Returns the charge for a request of `size`, which is at most a quarter of the budget. Even a request larger than the
/// whole budget can thus be accepted, and leaves most of the budget to other requests. Other requests do not wait until
/// a large request has run, because batches are shared fairly.
fn price(size: usize, limit: usize) -> usize {
    size.min(limit.div_ceil(4))
}

impl Budget {
    /// Returns a budget of `limit`, or of 1 if `limit` is 0.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget { limit: limit.max(1), used: AtomicUsize::new(0) })
    }

    /// Returns the amount of the budget in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Returns the size of the whole budget.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Charges a request of `size`, or fails and charges nothing.
    pub fn admit(self: &Arc<Self>, size: usize) -> Result<Charge, Full> {
        let mut charge = Charge { budget: self.clone(), amount: 0 };
        charge.adjust(size)?;
        Ok(charge)
    }
}

impl Charge {
    /// Changes the size of the charged request. If the unused part of the budget is too small, this function fails and
    /// the charge stays the same.
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

/// Returns how long a refused client should wait. `used` tokens are waiting, and `rate` tokens are processed per
/// second. The result is the time until half of the waiting tokens are done, clamped to 50 ms–60 s. If the rate is
/// unknown, the result is one second.
pub(crate) fn retry_after(used: usize, rate: Option<f64>) -> Duration {
    let (minimum, maximum) = (Duration::from_millis(50), Duration::from_secs(60));
    match rate {
        Some(rate) if rate > 0.0 => {
            let seconds = (used as f64 / 2.0 / rate).min(maximum.as_secs_f64());
            Duration::from_secs_f64(seconds).max(minimum)
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
    fn a_charge_is_adjusted_from_the_estimate_to_the_size() {
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
    fn concurrent_charges_never_exceed_the_limit() {
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
    fn retry_after_is_between_50_ms_and_a_minute() {
        assert_eq!(retry_after(1000, Some(1000.0)), Duration::from_millis(500));
        assert_eq!(retry_after(1, Some(1e9)), Duration::from_millis(50));
        assert_eq!(retry_after(usize::MAX, Some(1e-300)), Duration::from_secs(60));
        assert_eq!(retry_after(1000, Some(0.0)), Duration::from_secs(1));
        assert_eq!(retry_after(1000, None), Duration::from_secs(1));
    }
}
