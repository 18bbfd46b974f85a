//! Starts a `vectile serve`, observes it from outside, and sends it signals.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{resident_memory, vectile};

/// A `vectile serve` that is ready. It is killed when this value is dropped.
pub struct Program {
    child: Child,
    address: SocketAddr,
    /// The lines on stderr that arrived after the program was ready.
    log: mpsc::Receiver<String>,
}

impl Program {
    /// Starts the program on a free port with these models and arguments. Waits until it is ready.
    pub fn start(models: &[PathBuf], args: &[&str]) -> Program {
        Program::start_as(vectile(), models, args)
    }

    /// Does the same as [`Program::start`] with this command, whose last arguments become those of the program.
    pub fn start_as(mut command: Command, models: &[PathBuf], args: &[&str]) -> Program {
        command.args(["serve", "--port", "0"]);
        for model in models {
            command.arg("--model").arg(model);
        }
        command.args(args).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, received) = mpsc::channel();
        // The thread reads stderr to its end, so that the program never blocks on a full pipe.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(send.send(line)))
        });
        let (mut address, mut said) = (None, String::new());
        let end = Instant::now() + Duration::from_secs(120);
        while let Ok(line) = received.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some((_, url)) = line.split_once("listening on http://") {
                address = url.trim().parse().ok();
            }
            if let (true, Some(address)) = (line.contains("ready: "), address) {
                return Program { child, address, log: received };
            }
            said += &format!("{line}\n");
        }
        let _ = child.kill();
        panic!("the program is not ready: {:?}\n{said}", child.wait());
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the lines on stderr since the last call, or since the program was ready.
    pub fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Returns the processor time of the program so far, if the system tells it.
    pub fn processor_time(&self) -> Option<Duration> {
        let stat = Path::new("/proc").join(self.child.id().to_string()).join("stat");
        let stat = std::fs::read_to_string(stat).ok()?;
        // The name of the program, which is in parentheses, may contain spaces. Times are in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    }

    /// Sends the signal with this name to the program.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Returns the program's exit status, or `None` if it still runs after this time.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            match self.child.try_wait().unwrap() {
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                status => return status,
            }
        }
    }

    /// Returns the program's resident memory in bytes, if the system tells it.
    pub fn resident(&self) -> Option<u64> {
        resident_memory(&self.child.id().to_string())
    }

    /// Returns the program's number of open files and sockets, if the system tells it.
    pub fn open_files(&self) -> Option<usize> {
        let files = Path::new("/proc").join(self.child.id().to_string()).join("fd");
        Some(std::fs::read_dir(files).ok()?.count())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
