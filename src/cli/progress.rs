//! Progress bars on stderr. Nothing is drawn if stderr is not a terminal, or if its lines are JSON.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use vectile::LoadProgress;

use super::message;

/// If a model loads in less than this time, no bar is shown.
const LOADING_BAR_DELAY: Duration = Duration::from_millis(400);

/// A bar that shows how much of the input was read, with rows and tokens per second.
pub struct Progress {
    bar: ProgressBar,
    since: Instant,
    rows: u64,
    tokens: u64,
    /// The number of input bytes up to the end of the previous chunk.
    window_start: u64,
}

/// The numbers of rows and tokens that were finished since the previous update of the bar, and the position in the
/// current chunk.
pub struct Advance {
    pub rows: usize,
    pub tokens: usize,
    /// The number of finished rows in the current chunk.
    pub done: usize,
    /// The number of all rows in the current chunk.
    pub total: usize,
    /// The number of input bytes up to the end of the current chunk.
    pub end: u64,
}

impl Progress {
    /// Creates a bar, which is drawn only if `shown` is set. `total` is the length of the input in bytes, if known.
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
            window_start: 0,
        }
    }

    /// Sets the position at which the bar starts: the number of input bytes whose rows an earlier run has embedded.
    pub fn start_at(&mut self, position: u64) {
        self.window_start = position;
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    pub fn advance(&mut self, advance: Advance) {
        let Advance { rows, tokens, done, total, end } = advance;
        self.rows += rows as u64;
        self.tokens += tokens as u64;
        let seconds = self.since.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let rate = |count: u64| HumanCount((count as f64 / seconds).round() as u64);
        let window_bytes = end.saturating_sub(self.window_start) as f64;
        let done_bytes = window_bytes * done as f64 / total.max(1) as f64;
        self.bar.set_position(self.window_start + done_bytes as u64);
        if done == total {
            self.window_start = end;
        }
        let (row_rate, token_rate) = (rate(self.rows), rate(self.tokens));
        let rows = HumanCount(self.rows);
        self.bar.set_message(match self.tokens {
            0 => format!("{rows} rows, {row_rate} rows/s"),
            _ => format!("{rows} rows, {row_rate} rows/s, {token_rate} tokens/s"),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Returns a closure that draws a bar of finished steps. The closure's arguments are the current step, the number of
/// finished steps and the number of all steps. Dropping the closure clears the bar.
pub fn steps(shown: bool) -> impl FnMut(&str, usize, usize) {
    let bar = bar(None, "{bar:24} {percent:>3}%  {elapsed}  {wide_msg}", shown)
        .with_finish(ProgressFinish::AndClear);
    move |step, done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(step.to_owned());
    }
}

/// Returns a spinner that can show a message.
pub fn spinner(shown: bool) -> ProgressBar {
    let bar = bar(None, "{spinner} {elapsed} {msg}", shown);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Returns a progress bar that is drawn by `template`. The bar is hidden unless `shown` is set and bars may be drawn.
fn bar(total: Option<u64>, template: &str, shown: bool) -> ProgressBar {
    let target = match shown && message::allows_bars() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(total, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Returns a closure that draws a bar of loaded bytes. The bar appears only if loading takes a while.
pub fn loading() -> impl Fn(LoadProgress) + Send + Sync + 'static {
    let show = bytes("loading");
    move |load| show(load.done, load.total)
}

/// Returns a closure that draws a bar of downloaded bytes. The bar appears only if the download takes a while.
#[cfg(feature = "hub")]
pub fn downloading() -> impl Fn(vectile::DownloadProgress) + Send + Sync + 'static {
    let show = bytes("downloading");
    move |download| show(download.done, download.total)
}

fn bytes(what: &str) -> impl Fn(u64, u64) + Send + Sync + 'static {
    let bar = ProgressBar::hidden().with_finish(ProgressFinish::AndClear);
    let template = format!(
        "{what} {{bar:30}} {{percent:>3}}%  {{binary_bytes}} of {{binary_total_bytes}}  {{eta}} left"
    );
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    let since = Instant::now();
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        let is_slow = since.elapsed() > LOADING_BAR_DELAY;
        if bar.is_hidden() && is_slow && message::allows_bars() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if done >= total {
            bar.finish_and_clear();
        }
    }
}
