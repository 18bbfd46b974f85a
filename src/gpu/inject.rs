//! Faults that tests inject into the calls to a device, to check that each call may fail.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::gpu::limits::LowLimits;

/// A kind of call to a device.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Opening the device.
    Open,
    /// Making the layout of a bind group.
    Layout,
    /// Making a buffer.
    Buffer,
    /// Writing into a buffer.
    Write,
    /// Making a pipeline, from its WGSL.
    Pipeline,
    /// Making the driver's cache of pipelines.
    PipelineCache,
    /// Reading compiled pipelines from the driver's cache.
    PipelineData,
    /// Making a set of timestamps.
    Queries,
    /// Making a command encoder.
    Encoder,
    /// Making a bind group.
    BindGroup,
    /// Recording commands into an encoder.
    Record,
    /// Finishing an encoder.
    Finish,
    /// Submitting commands, or writes without commands.
    Submit,
    /// Requesting that a buffer is mapped.
    Map,
    /// Waiting for a submit.
    Poll,
    /// Reading a mapped buffer.
    Read,
    /// Unmapping a buffer.
    Unmap,
}

/// The way in which a call fails.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device refuses the call as invalid. A wait ends at its time limit, and the submit is not done.
    Refusal,
    /// The device has no memory left for the call.
    OutOfMemory,
    /// The device is lost before the call, and reports its loss at once.
    Loss,
    /// The device is lost before the call. The loss is reported when wgpu notices it, which may be later.
    LateLoss,
    /// wgpu panics during the call.
    Panic,
}

/// A wrong answer of a driver: a batch reads back bytes that its kernels have not computed.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongAnswer {
    /// Every value of the rows is zero.
    ZeroRows,
    /// The first value of the first row is NaN.
    NotANumber,
    /// The rows are those of the batch before.
    StaleRows,
    /// The first half and the second half of the rows are exchanged.
    ExchangedRows,
    /// One bit of the first value of the first row is flipped. Bit 31 is the sign.
    FlippedBit(u32),
    /// All bytes are zero: the rows, and the report of the batch.
    ZeroBytes,
    /// All bytes are those of the batch before.
    StaleBytes,
}

impl WrongAnswer {
    /// Changes the bytes of a batch. The first `rows` bytes are its rows, and the others are its report. `before` has
    /// the bytes of the batch before.
    fn apply(self, bytes: &mut [u8], rows: usize, before: &[u8]) {
        let copy = |to: &mut [u8]| to.iter_mut().zip(before).for_each(|(to, from)| *to = *from);
        match self {
            WrongAnswer::ZeroRows => bytes[..rows].fill(0),
            WrongAnswer::NotANumber => bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            WrongAnswer::StaleRows => copy(&mut bytes[..rows]),
            WrongAnswer::ExchangedRows => bytes[..rows].rotate_left(rows / 2),
            WrongAnswer::FlippedBit(bit) => bytes[bit as usize / 8] ^= 1 << (bit % 8),
            WrongAnswer::ZeroBytes => bytes.fill(0),
            WrongAnswer::StaleBytes => copy(bytes),
        }
    }
}

/// The calls to fail, and a count of calls. Every device that a model opens shares the plan of the model's builder.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct FaultPlan(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    armed: Option<Armed>,
    /// The number of calls since the plan was armed.
    calls: u64,
    /// The call that failed first since the plan was armed.
    struck: Option<Call>,
    /// The time limit of a wait; `None` for the executor's own limit.
    wait: Option<Duration>,
    /// The limits of devices that are opened; `None` for the adapter's own limits.
    limits: Option<LowLimits>,
    /// The wrong answer of every batch; `None` for right answers.
    wrong: Option<WrongAnswer>,
    /// The bytes that the last batch computed.
    computed: Vec<u8>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    at: u64,
    /// The kind of call that is counted and fails; `None` for all kinds.
    only: Option<Call>,
}

impl FaultPlan {
    /// Makes one call fail: the one with the number `at`. The next call has the number 1.
    pub fn arm(&self, fault: Fault, at: u64) {
        self.start(Armed { fault, at, only: None });
    }

    /// Makes one call of a kind fail: the one with the number `at`. The next call of this kind has the number 1.
    pub fn arm_only(&self, call: Call, fault: Fault, at: u64) {
        self.start(Armed { fault, at, only: Some(call) });
    }

    /// Stops injecting, and returns the call that failed since the plan was armed.
    pub fn disarm(&self) -> Option<Call> {
        let mut state = self.lock();
        state.armed = None;
        state.struck.take()
    }

    /// Returns the number of calls since the plan was armed.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Sets the time limit of a wait for a submit.
    pub fn limit_waits(&self, limit: Duration) {
        self.lock().wait = Some(limit);
    }

    /// Lowers the limits of devices that are opened from now on.
    pub fn lower_limits(&self, limits: LowLimits) {
        self.lock().limits = Some(limits);
    }

    /// Returns the limits of devices, if a test has lowered them.
    pub(super) fn limits(&self) -> Option<LowLimits> {
        self.lock().limits
    }

    /// Makes every batch from now on return a wrong answer; `None` ends this.
    pub fn answer_wrongly(&self, wrong: Option<WrongAnswer>) {
        self.lock().wrong = wrong;
    }

    /// Changes the bytes that a batch read back, of which `rows` bytes are rows.
    pub(super) fn change(&self, bytes: &mut [u8], rows: u64) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.computed, bytes.to_vec());
        if let Some(wrong) = state.wrong {
            wrong.apply(bytes, rows as usize, &before);
        }
    }

    /// Returns the time limit of a wait, if a test has set it.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.lock().wait
    }

    /// Counts a call, and returns the fault with which it must fail.
    pub(super) fn strike(&self, call: Call) -> Option<Fault> {
        let mut state = self.lock();
        let State { armed, calls, struck, .. } = &mut *state;
        if armed.as_ref().is_some_and(|armed| armed.only.is_some_and(|only| only != call)) {
            return None;
        }
        *calls += 1;
        let armed = armed.take_if(|armed| armed.at == *calls)?;
        *struck = Some(call);
        Some(armed.fault)
    }

    fn start(&self, armed: Armed) {
        let mut state = self.lock();
        state.armed = Some(armed);
        state.calls = 0;
        state.struck = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_planned_call_fails_and_only_once() {
        let plan = FaultPlan::default();
        assert_eq!(plan.strike(Call::Buffer), None);
        plan.arm(Fault::Panic, 2);
        let struck = [Call::Write, Call::Poll, Call::Poll].map(|call| plan.strike(call));
        assert_eq!(struck, [None, Some(Fault::Panic), None]);
        assert_eq!((plan.calls(), plan.disarm(), plan.disarm()), (3, Some(Call::Poll), None));
        plan.arm_only(Call::Poll, Fault::Loss, 2);
        let struck = [Call::Poll, Call::Write, Call::Poll].map(|call| plan.strike(call));
        assert_eq!(struck, [None, None, Some(Fault::Loss)]);
    }
}
