//! [`Attempts`]: the adapters that are tried one after the other until one works.

use std::vec::IntoIter;

use crate::embedder::device::DeviceSetup;
use crate::error::Error;
use crate::executor::adapters;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary};

/// The adapter that is tried at present, and the adapters that are tried after it.
pub(crate) struct Attempts {
    setup: DeviceSetup,
    /// The adapters that are still to be tried; `None` until an attempt fails.
    others: Option<IntoIter<AdapterSummary>>,
}

impl Attempts {
    /// Returns attempts that begin with the adapter of `setup`.
    pub fn new(setup: DeviceSetup) -> Self {
        Attempts { setup, others: None }
    }

    /// Returns the setup for the adapter that is tried at present.
    pub fn setup(&self) -> DeviceSetup {
        self.setup.clone()
    }

    /// Moves on to the next adapter after an attempt failed with `error`, and logs a warning.
    ///
    /// # Errors
    /// Returns `error` itself if the device did not cause it, if the caller named the adapter, or if no further adapter
    /// exists.
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
