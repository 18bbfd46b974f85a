//! Every call to a device. A call whose wgpu code panics returns an error, and the device then counts as lost.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::host_memory;
use crate::gpu::inject::{Call, Fault, FaultPlan};

/// The faults of a device since the last check. wgpu reports them through a callback, not from the call that failed.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub lost: Option<String>,
    /// The counter of lost devices. Devices that are opened later share it.
    pub losses: Option<Arc<AtomicU64>>,
    pub out_of_memory: Option<String>,
    pub other: Option<String>,
}

impl Faults {
    fn lose(&mut self, problem: String) {
        if self.lost.is_none() {
            self.lost = Some(problem);
            if let Some(losses) = &self.losses {
                losses.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// A device and its queue. Clones are handles to the same device.
#[derive(Debug, Clone)]
pub(super) struct Calls(Arc<Device>);

#[derive(Debug)]
struct Device {
    adapter: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    faults: Arc<Mutex<Faults>>,
    /// The faults that a test injects; `None` except in tests.
    plan: Option<Arc<FaultPlan>>,
    /// Closes the device. It must be the last field, because it must be dropped after the other handles.
    _closing: Closing,
}

/// Closes a device when it is dropped. It holds the last handle of the device's queue.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "closing never blocks in a browser"))]
#[derive(Debug)]
struct Closing {
    queue: Option<wgpu::Queue>,
    faults: Arc<Mutex<Faults>>,
}

/// Asks for a device.
///
/// # Errors
/// Returns [`Error::DeviceFault`] if the device cannot be opened.
pub(super) async fn open(
    adapter: &wgpu::Adapter,
    name: &str,
    descriptor: &wgpu::DeviceDescriptor<'_>,
    plan: Option<Arc<FaultPlan>>,
) -> Result<Calls, Error> {
    let refused =
        |why: String| Error::device_fault(name, format!("the device cannot be opened: {why}"));
    let fault = plan.as_ref().and_then(|plan| plan.strike(Call::Open));
    if let Some(fault @ (Fault::Refusal | Fault::OutOfMemory | Fault::Panic)) = fault {
        return Err(refused(format!("{fault:?}")));
    }
    let (device, queue) =
        adapter.request_device(descriptor).await.map_err(|error| refused(error.to_string()))?;
    let faults = Arc::new(Mutex::new(Faults::default()));
    watch(&device, &faults);
    let closing = Closing { queue: Some(queue.clone()), faults: faults.clone() };
    let adapter = name.to_owned();
    let calls = Calls(Arc::new(Device { adapter, device, queue, faults, plan, _closing: closing }));
    if fault.is_some() {
        calls.destroy();
    }
    Ok(calls)
}

impl Calls {
    /// Makes the call `right`. If a test injects a refusal, makes the call `refused` instead, which is invalid.
    ///
    /// # Errors
    /// Returns [`Error::DeviceLost`] if wgpu panics. wgpu reports other faults through callbacks, so only the next
    /// check of the device returns them.
    fn call<R>(
        &self,
        call: Call,
        right: impl FnOnce(&wgpu::Device) -> R,
        refused: impl FnOnce(&wgpu::Device) -> R,
    ) -> Result<R, Error> {
        let device = &self.0.device;
        let fault = self.0.plan.as_ref().and_then(|plan| plan.strike(call));
        if (call, fault) == (Call::Pipeline, Some(Fault::OutOfMemory)) {
            // wgpu reports this error to the scopes of the pipeline, and not through the callback.
            return Err(Error::OutOfMemory {
                adapter: self.0.adapter.clone(),
                what: "compiling a kernel".to_owned(),
                bytes: 0,
                advice: "a test injected this error".to_owned(),
            });
        }
        let run = || match fault {
            None => right(device),
            Some(Fault::Refusal) => refused(device),
            Some(Fault::OutOfMemory) => {
                let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
                let result = refused(device);
                drop(scope.pop());
                let problem = format!("out of memory in {call:?}");
                self.faults().out_of_memory.get_or_insert(problem);
                result
            }
            Some(Fault::Loss) => {
                self.destroy();
                right(device)
            }
            Some(Fault::LateLoss) => {
                device.destroy();
                right(device)
            }
            Some(Fault::Panic) => injected_panic(call),
        };
        // After a panic nobody knows the state of the device, so no later call uses it.
        catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
            self.lose("the driver reported a fatal error".to_owned());
            self.lost()
        })
    }

    /// Makes a buffer of a size and with usages, without content.
    pub fn buffer(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Result<wgpu::Buffer, Error> {
        use wgpu::BufferUsages as U;
        let refused =
            wgpu::BufferDescriptor { usage: U::MAP_READ | U::MAP_WRITE, ..descriptor.clone() };
        self.call(
            Call::Buffer,
            |device| device.create_buffer(descriptor),
            |device| device.create_buffer(&refused),
        )
    }

    /// Makes the layout of a bind group with one entry.
    pub fn layout(
        &self,
        label: &str,
        entry: wgpu::BindGroupLayoutEntry,
    ) -> Result<wgpu::BindGroupLayout, Error> {
        let make = |entries: &[wgpu::BindGroupLayoutEntry], device: &wgpu::Device| {
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(label),
                entries,
            })
        };
        self.call(
            Call::Layout,
            |device| make(&[entry], device),
            |device| make(&[entry, entry], device),
        )
    }

    /// Makes a bind group.
    pub fn bind_group(
        &self,
        descriptor: &wgpu::BindGroupDescriptor<'_>,
    ) -> Result<wgpu::BindGroup, Error> {
        let refused = wgpu::BindGroupDescriptor { entries: &[], ..descriptor.clone() };
        self.call(
            Call::BindGroup,
            |device| device.create_bind_group(descriptor),
            |device| device.create_bind_group(&refused),
        )
    }

    /// Makes a pipeline with `make`. The second argument of `make` is the name of the shader's entry point, which is
    /// `entry`. Also returns the driver's error about the pipeline, once the future is ready. Calls on other threads do
    /// not get this error.
    pub fn pipeline<T>(
        &self,
        entry: &'static str,
        make: impl Fn(&wgpu::Device, &str) -> T,
    ) -> (Result<T, Error>, impl Future<Output = Option<wgpu::Error>>) {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        // An error scope catches only the errors of its own thread, until it is popped.
        let scopes = [OutOfMemory, Internal, Validation].map(|f| self.0.device.push_error_scope(f));
        let made = self.call(
            Call::Pipeline,
            |device| make(device, entry),
            |device| make(device, "no entry point has this name"),
        );
        let [out_of_memory, internal, validation] = scopes;
        let errors = (validation.pop(), internal.pop(), out_of_memory.pop());
        let first = async {
            let errors = [errors.0.await, errors.1.await, errors.2.await];
            errors.into_iter().flatten().next()
        };
        (made, first)
    }

    /// Makes the driver's cache of pipelines, with the content `data`.
    ///
    /// # Safety
    /// `data` must come from [`Calls::pipeline_data`] for the same adapter and driver.
    pub unsafe fn pipeline_cache(&self, data: Option<&[u8]>) -> Result<wgpu::PipelineCache, Error> {
        let make = |device: &wgpu::Device, data| {
            let descriptor =
                wgpu::PipelineCacheDescriptor { label: Some("vectile"), data, fallback: true };
            // SAFETY: the caller promises that `data` comes from the same adapter and driver.
            unsafe { device.create_pipeline_cache(&descriptor) }
        };
        self.call(Call::PipelineCache, |device| make(device, data), |device| make(device, None))
    }

    /// Returns the content of the driver's cache of pipelines.
    pub fn pipeline_data(&self, cache: &wgpu::PipelineCache) -> Result<Option<Vec<u8>>, Error> {
        self.call(Call::PipelineData, |_| cache.get_data(), |_| None)
    }

    /// Makes a set of `count` timestamps.
    pub fn queries(&self, count: u32) -> Result<wgpu::QuerySet, Error> {
        let make = |device: &wgpu::Device, count| {
            device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            })
        };
        self.call(Call::Queries, |device| make(device, count), |device| make(device, 0))
    }

    /// Makes a command encoder.
    pub fn encoder(&self) -> Result<wgpu::CommandEncoder, Error> {
        let make = |device: &wgpu::Device| {
            device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
        };
        self.call(Call::Encoder, make, |device| {
            let mut encoder = make(device);
            spoil(&mut encoder);
            encoder
        })
    }

    /// Records commands into an encoder with `record`.
    pub fn record<R>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        record: impl Fn(&mut wgpu::CommandEncoder) -> R,
    ) -> Result<R, Error> {
        let encoder = std::cell::RefCell::new(encoder);
        self.call(
            Call::Record,
            |_| record(&mut encoder.borrow_mut()),
            |_| {
                spoil(&mut encoder.borrow_mut());
                record(&mut encoder.borrow_mut())
            },
        )
    }

    /// Returns the commands that an encoder has recorded, for [`Calls::submit`].
    pub fn finish(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::CommandBuffer, Error> {
        let encoder = std::cell::Cell::new(Some(encoder));
        let finish = |spoiled: bool| {
            let mut encoder = encoder.take()?;
            if spoiled {
                spoil(&mut encoder);
            }
            Some(encoder.finish())
        };
        let finished = self.call(Call::Finish, |_| finish(false), |_| finish(true))?;
        finished.ok_or_else(|| Error::Internal("an encoder was finished twice".to_owned()))
    }

    /// Submits commands, and all writes before them.
    pub fn submit(
        &self,
        commands: Option<wgpu::CommandBuffer>,
    ) -> Result<wgpu::SubmissionIndex, Error> {
        let queue = &self.0.queue;
        self.call(
            Call::Submit,
            |_| queue.submit(commands),
            |device| {
                let mut encoder =
                    device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                spoil(&mut encoder);
                queue.submit([encoder.finish()])
            },
        )
    }

    /// Writes into a buffer.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let queue = &self.0.queue;
        self.call(
            Call::Write,
            |_| queue.write_buffer(buffer, offset, bytes),
            |_| queue.write_buffer(buffer, buffer.size(), bytes),
        )
    }

    /// Requests that the beginning of a buffer is mapped for reading. `done` gets the result.
    pub fn map(
        &self,
        buffer: &wgpu::Buffer,
        range: Range<u64>,
        done: impl FnOnce(Result<(), wgpu::BufferAsyncError>) + Send + 'static,
    ) -> Result<(), Error> {
        let done = std::cell::Cell::new(Some(done));
        let map = |mode| {
            if let Some(done) = done.take() {
                buffer.map_async(mode, range.clone(), done);
            }
        };
        self.call(Call::Map, |_| map(wgpu::MapMode::Read), |_| map(wgpu::MapMode::Write))
    }

    /// Waits for a submit, at most for `limit`.
    pub fn poll(
        &self,
        index: wgpu::SubmissionIndex,
        limit: Duration,
    ) -> Result<Result<wgpu::PollStatus, wgpu::PollError>, Error> {
        let limit = self.0.plan.as_ref().and_then(|plan| plan.wait()).unwrap_or(limit);
        let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(limit) };
        self.call(Call::Poll, |device| device.poll(wait), |_| Err(wgpu::PollError::Timeout))
    }

    /// Makes a lost device report its loss now, if it has not reported it yet.
    pub fn report_loss(&self) -> Result<(), Error> {
        let poll = |device: &wgpu::Device| {
            // wgpu runs the callbacks during this call. Its result is not needed.
            let _ = device.poll(wgpu::PollType::Poll);
        };
        self.call(Call::Poll, poll, poll)
    }

    /// Returns a copy of the bytes of a mapped buffer.
    pub fn read(
        &self,
        buffer: &wgpu::Buffer,
        range: Range<u64>,
    ) -> Result<Result<Vec<u8>, wgpu::MapRangeError>, Error> {
        let read = || buffer.get_mapped_range(range.clone()).map(|view| view.to_vec());
        let unmapped = || {
            buffer.unmap();
            read()
        };
        self.call(Call::Read, |_| read(), |_| unmapped())
    }

    /// Changes the bytes that a batch read back, as a test's plan says. The first `rows` bytes are the rows.
    pub fn change(&self, bytes: &mut [u8], rows: u64) {
        if let Some(plan) = &self.0.plan {
            plan.change(bytes, rows);
        }
    }

    /// Ends the host's access to a mapped buffer, so that commands may use it again.
    pub fn unmap(&self, buffer: &wgpu::Buffer) -> Result<(), Error> {
        self.call(
            Call::Unmap,
            |_| buffer.unmap(),
            |_| {
                buffer.unmap();
                buffer.unmap();
            },
        )
    }

    /// Returns the features that the device was opened with.
    pub fn features(&self) -> wgpu::Features {
        self.0.device.features()
    }

    /// Returns the key of the adapter and driver for cached pipelines; `None` if wgpu has none for them.
    pub fn pipeline_cache_key(&self) -> Option<String> {
        wgpu::util::pipeline_cache_key(&self.0.device.adapter_info())
    }

    /// Returns the length of a timestamp's tick in nanoseconds.
    pub fn timestamp_period(&self) -> f64 {
        f64::from(self.0.queue.get_timestamp_period())
    }

    /// Returns the faults since the last check.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.0.faults)
    }

    /// Marks the device as lost, as wgpu's callback for lost devices does.
    pub fn lose(&self, problem: String) {
        self.faults().lose(problem);
    }

    /// Returns the error for a lost device.
    fn lost(&self) -> Error {
        let problem = self.faults().lost.clone().unwrap_or_default();
        Error::DeviceLost { adapter: self.0.adapter.clone(), problem }
    }

    /// Destroys the device, as a driver reset does.
    pub fn destroy(&self) {
        self.0.device.destroy();
        self.lose("destroyed".to_owned());
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Closing {
    /// Closes a lost device on another thread. While wgpu closes a device, it waits for work that may never end, and it
    /// panics if the driver reports an error.
    fn drop(&mut self) {
        let queue = self.queue.take().filter(|_| lock(&self.faults).lost.is_some());
        if let Some(queue) = queue {
            let close = move || {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(queue)));
                host_memory::give_back();
            };
            // If no thread can be started, `close` is dropped, and the device is closed on this thread.
            let _ = std::thread::Builder::new().name("vectile closes".to_owned()).spawn(close);
        }
    }
}

/// Makes an encoder invalid: it ends a debug group that was never begun.
fn spoil(encoder: &mut wgpu::CommandEncoder) {
    encoder.pop_debug_group();
}

/// Unwinds as a panic does, without the report that a panic prints.
fn injected_panic(call: Call) -> ! {
    std::panic::resume_unwind(Box::new(format!("a test injects a panic into {call:?}")))
}

fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(device: &wgpu::Device, faults: &Arc<Mutex<Faults>>) {
    let sink = faults.clone();
    // Without this handler, wgpu panics on an error that no error scope catches.
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let mut faults = lock(&sink);
        let slot = match error {
            wgpu::Error::OutOfMemory { .. } => &mut faults.out_of_memory,
            _ => &mut faults.other,
        };
        slot.get_or_insert(error.to_string());
    }));
    let sink = faults.clone();
    device.set_device_lost_callback(move |reason, message| {
        lock(&sink).lose(format!("{reason:?}: {message}"));
    });
}
