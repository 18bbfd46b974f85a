//! [`Attempts`]: the adapters on which something is tried, one after the other.

use std::vec::IntoIter;

use crate::embedder::device::DeviceSetup;
use crate::error::Error;
use crate::executor::adapters;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary};

/// The adapter that is tried, and those that follow it.
pub(crate) struct Attempts {
    setup: DeviceSetup,
    /// The adapters that follow; `None` until an attempt fails.
    others: Option<IntoIter<AdapterSummary>>,
}

impl Attempts {
    /// Begins with the adapter of a setup.
    pub fn new(setup: DeviceSetup) -> Self {
        Attempts { setup, others: None }
    }

    /// A setup of the adapter to try.
    pub fn setup(&self) -> DeviceSetup {
        self.setup.clone()
    }

    /// Goes to the next adapter after an error of the adapter that was tried, and warns of it.
    ///
    /// # Errors
    /// The error itself, if the device is not at fault, the caller named the adapter, or no adapter follows.
    pub async fn give_way(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_device_fault() {
            return Err(error);
        }
        let others = match &mut self.others {
            Some(others) => others,
            None if self.setup.is_named() => return Err(error),
            None => {
                let mut all = adapters().await;
                all.retain(|other| self.setup.adapter == AdapterChoice::Best || !other.is_cpu());
                let mut all = all.into_iter();
                // The adapters are sorted by preference, so the first of `all` is the adapter that just failed.
                all.next();
                self.others.insert(all)
            }
        };
        let Some(other) = others.next() else { return Err(error) };
        tracing::warn!("{error}; Vectile tries the next adapter: {other}");
        self.setup.adapter = AdapterChoice::Index(other.index);
        Ok(())
    }
}
