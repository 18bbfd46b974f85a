//! Progress bars: on stderr, where that is a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use vectile::LoadProgress;

/// A load that takes less is over before a bar is read.
const PATIENCE: Duration = Duration::from_millis(400);

/// How far the input was read, and how fast.
pub struct Progress {
    bar: ProgressBar,
    since: Instant,
    rows: u64,
    tokens: u64,
    /// The end of the window before.
    from: u64,
}

impl Progress {
    /// `total` is the length of the input in bytes, where known. `shown` asks for a bar.
    pub fn new(total: Option<u64>, shown: bool) -> Self {
        let template = match total {
            Some(_) => "{bar:30} {percent:>3}%  {msg}  {elapsed} elapsed, {eta} left",
            None => "{spinner} {msg}  {elapsed} elapsed",
        };
        Progress {
            bar: bar(total, template, shown),
            since: Instant::now(),
            rows: 0,
            tokens: 0,
            from: 0,
        }
    }

    /// So much of the input was done before.
    pub fn start_at(&mut self, position: u64) {
        self.from = position;
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    /// So many more rows of so many tokens are done: `done` of the `of` rows of a window that ends at this
    /// position of the input.
    pub fn advance(&mut self, rows: usize, tokens: usize, [done, of]: [usize; 2], end: u64) {
        self.rows += rows as u64;
        self.tokens += tokens as u64;
        let seconds = self.since.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let rate = |count: u64| HumanCount((count as f64 / seconds).round() as u64);
        let part = end.saturating_sub(self.from) as f64 * done as f64 / of.max(1) as f64;
        self.bar.set_position(self.from + part as u64);
        if done == of {
            self.from = end;
        }
        let (rows, tokens) = (rate(self.rows), rate(self.tokens));
        let all = HumanCount(self.rows);
        self.bar.set_message(format!("{all} rows, {rows} rows/s, {tokens} tokens/s"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows what is being done, and how many steps of how many are done; gone with the closure.
pub fn steps(shown: bool) -> impl FnMut(&str, usize, usize) {
    let bar = bar(None, "{bar:24} {percent:>3}%  {elapsed}  {wide_msg}", shown)
        .with_finish(ProgressFinish::AndClear);
    move |doing, done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(doing.to_owned());
    }
}

/// A spinner that says what is done.
pub fn spinner(shown: bool) -> ProgressBar {
    let bar = bar(None, "{spinner} {elapsed} {msg}", shown);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar of this template, where it is asked for and stderr is a terminal.
fn bar(total: Option<u64>, template: &str, shown: bool) -> ProgressBar {
    let target = match shown && std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(total, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Shows how far a load is, after a moment.
pub fn loading() -> impl Fn(LoadProgress) + Send + Sync + 'static {
    let bar = ProgressBar::hidden().with_finish(ProgressFinish::AndClear);
    let template =
        "loading {bar:30} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let since = Instant::now();
    move |load| {
        bar.set_length(load.total);
        bar.set_position(load.done);
        if bar.is_hidden() && since.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if load.done >= load.total {
            bar.finish_and_clear();
        }
    }
}
