//! Fails every call to the device in turn, while a model loads, embeds, and opens a lost device again. Each failure
//! must end in right rows or in a clear error, and the next call must return rows with the same bits as before.
//!
//! The tests fail a sample of the calls. With `VECTILE_EVERY_FAULT=1` they fail every call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vectile::gpu::inject::{Call, Fault, FaultPlan};
use vectile::{Embedder, EmbedderBuilder, Embeddings, Error, block_on};

use crate::builder;
use crate::support::{adapter, build, lacks_shaders, must_have};

/// A model with a transformer.
const BERT: &str = "bert_dense";

/// A model with few kernels, which loads fast.
const STATIC: &str = "families/static";

const TEXTS: [&str; 2] = ["a cat sat", "on the roof"];

const FAULTS: [Fault; 5] =
    [Fault::Refusal, Fault::OutOfMemory, Fault::Loss, Fault::LateLoss, Fault::Panic];

/// The longest time that a call may take after a fault.
const LONGEST: Duration = Duration::from_secs(5);

/// Returns the models to test. With each comes a step: every `step`-th call fails.
fn models(step: usize) -> impl Iterator<Item = (&'static str, usize)> {
    [(STATIC, step), (BERT, 1)].into_iter().take(1 + usize::from(every_fault()))
}

/// True if every call must fail, and not only a sample.
fn every_fault() -> bool {
    must_have("VECTILE_EVERY_FAULT")
}

/// Counts attempts, for each call that failed and each outcome.
#[derive(Default)]
struct Tally(BTreeMap<(Call, &'static str), usize>);

impl Tally {
    fn add(&mut self, struck: Call, outcome: Result<(), Error>) {
        let outcome = match outcome {
            Ok(()) => "right rows",
            Err(Error::DeviceLost { .. }) => "DeviceLost",
            Err(Error::DeviceFault { .. }) => "DeviceFault",
            Err(Error::OutOfMemory { .. }) => "OutOfMemory",
            Err(Error::Internal(_)) => "Internal",
            Err(error) => panic!("a fault in {struck:?} must not be reported as: {error}"),
        };
        *self.0.entry((struck, outcome)).or_default() += 1;
    }

    fn print(&self, what: &str) {
        let attempts: usize = self.0.values().sum();
        let each: Vec<String> =
            self.0.iter().map(|((call, outcome), n)| format!("{call:?}: {outcome} {n}")).collect();
        eprintln!("{what}: {attempts} faults; {}", each.join(", "));
        assert!(attempts > FAULTS.len(), "{what}: the sweep ended too early");
    }
}

/// A model whose calls to the device fail as a plan says, and the rows that it must return.
struct Sabotaged {
    plan: Arc<FaultPlan>,
    builder: EmbedderBuilder,
    embedder: Embedder,
    expected: Embeddings,
}

impl Sabotaged {
    fn load(model: &str) -> Option<Self> {
        if lacks_shaders() {
            return None;
        }
        let plan = Arc::<FaultPlan>::default();
        let builder = builder(model).or_adapter(adapter()).inject(plan.clone());
        let embedder = build(builder.clone())?;
        let expected = block_on(embedder.embed(&TEXTS)).unwrap();
        Some(Sabotaged { plan, builder, embedder, expected })
    }

    fn embed(&self) -> Result<Embeddings, Error> {
        block_on(self.embedder.embed(&TEXTS))
    }

    /// Checks that a result is an error or has the right rows, and that the next call returns the right rows.
    #[track_caller]
    fn check(&self, result: Result<Embeddings, Error>) -> Result<(), Error> {
        let next = self.embed().expect("the call after a fault works");
        assert!(next.values == self.expected.values, "the call after a fault has other rows");
        let rows = result?;
        assert!(rows.values == self.expected.values, "a call with a fault has other rows");
        Ok(())
    }

    /// Repeats `attempt` for each kind of fault, and each time a later call of it fails. It ends when an attempt makes
    /// so few calls that none fails. Only every `step`-th call fails. After each attempt, `after` checks the next call.
    fn sweep<R>(
        &self,
        step: impl Fn(Fault) -> usize,
        mut attempt: impl FnMut() -> Result<R, Error>,
        mut after: impl FnMut(Result<R, Error>) -> Result<(), Error>,
    ) -> Tally {
        let mut tally = Tally::default();
        for (start, fault) in FAULTS.into_iter().enumerate() {
            let step = if every_fault() { 1 } else { step(fault) };
            // Each fault starts at another call, so that the faults hit different calls.
            for at in (1 + start % step..).step_by(step) {
                self.plan.arm(fault, at as u64);
                let since = Instant::now();
                let result = attempt();
                let took = since.elapsed();
                let struck = self.plan.disarm();
                assert!(took < LONGEST, "{fault:?} in call {at} ({struck:?}) took {took:?}");
                if let (None, Err(error)) = (struck, &result) {
                    panic!("{fault:?} from call {at}: nothing failed, but: {error}");
                }
                let outcome = after(result);
                match struck {
                    Some(struck) => tally.add(struck, outcome),
                    None => break,
                }
            }
        }
        tally
    }
}

#[test]
fn every_call_of_a_batch_may_fail() {
    let Some(model) = Sabotaged::load(BERT) else { return };
    // Attempts with these faults are fast, because no device must be opened again.
    let step = |fault| if matches!(fault, Fault::Refusal | Fault::OutOfMemory) { 1 } else { 41 };
    model.sweep(step, || model.embed(), |result| model.check(result)).print("embed");
}

/// Fails the first call of each kind, because a sample may miss a kind.
#[test]
fn every_kind_of_call_may_fail() {
    let Some(model) = Sabotaged::load(STATIC) else { return };
    let mut tally = Tally::default();
    use Call as C;
    let of_batch =
        [C::Write, C::Encoder, C::Record, C::Finish, C::Submit, C::Map, C::Poll, C::Read, C::Unmap];
    let of_batch = of_batch.into_iter().map(|call| (call, false));
    // A batch of a known shape makes no bind groups.
    let of_reopening =
        [C::Open, C::Layout, C::Buffer, C::Pipeline, C::BindGroup].map(|call| (call, true));
    for (call, lost) in of_batch.chain(of_reopening) {
        for fault in FAULTS {
            if lost {
                block_on(model.embedder.lose_device());
            }
            model.plan.arm_only(call, fault, 1);
            let result = model.embed();
            assert_eq!(model.plan.disarm(), Some(call), "{fault:?}");
            let outcome = model.check(result);
            // An injected refusal must reach the caller. Only a refused wait may still give rows, because it is
            // repeated on a new device.
            let refused = fault == Fault::Refusal && call != C::Poll;
            assert!(!refused || outcome.is_err(), "{call:?} was not refused");
            tally.add(call, outcome);
        }
    }
    tally.print("each kind of call");
}

#[test]
fn every_call_of_opening_a_lost_device_may_fail() {
    for (name, step) in models(5) {
        let Some(model) = Sabotaged::load(name) else { return };
        let attempt = || {
            block_on(model.embedder.lose_device());
            model.embed()
        };
        let tally = model.sweep(|_| step, attempt, |result| model.check(result));
        tally.print(&format!("open {name} again"));
    }
}

#[test]
fn every_call_of_a_load_may_fail() {
    for (name, step) in models(3) {
        let Some(model) = Sabotaged::load(name) else { return };
        let load = || block_on(model.builder.clone().build());
        let tally = model.sweep(
            |_| step,
            load,
            |result| {
                let again = || load().expect("the load after a fault works");
                let (embedder, outcome) = match result {
                    Ok(embedder) => (embedder, Ok(())),
                    Err(error) => (again(), Err(error)),
                };
                let rows = block_on(embedder.embed(&TEXTS)).unwrap();
                assert!(rows.values == model.expected.values, "a load has other rows");
                outcome
            },
        );
        tally.print(&format!("load {name}"));
    }
}

/// If a kernel runs for longer than the time limit of a wait, the device counts as lost. Another thread closes the
/// device, and waits for the kernel.
#[test]
fn a_submit_that_does_not_end_is_a_lost_device() {
    if lacks_shaders() {
        return;
    }
    let plan = Arc::<FaultPlan>::default();
    plan.limit_waits(Duration::from_millis(100));
    let slow = builder(BERT).inject(plan).edit_shader(("pool", |wgsl| {
        // The software driver ends a loop after 65,535 rounds.
        let round = "value = sin(value + 0.1); ".repeat(200);
        let slow = format!("for (var i = 0u; i < 65000u; i++) {{ {round} }}\n    let row = text");
        wgsl.replace("    let row = text", &slow)
    }));
    let Some(embedder) = build(slow) else { return };
    let texts: Vec<&str> = TEXTS.into_iter().cycle().take(12).collect();
    let since = Instant::now();
    let result = block_on(embedder.embed(&texts));
    eprintln!("a submit that does not end: {:?}", since.elapsed());
    assert!(matches!(result, Err(Error::DeviceLost { .. })), "{result:?}");
    // The kernel still runs, so another thread waits for it.
    #[cfg(target_os = "linux")]
    {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
        let names = threads.map(|thread| std::fs::read_to_string(thread.path().join("comm")));
        let mut names = names.map(Result::unwrap_or_default);
        assert!(names.any(|name| name.trim() == "vectile closes"));
    }
}
