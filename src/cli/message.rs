//! Prints messages for the user on stderr, as plain text or as JSON. The JSON has the same fields as a line of the log.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::args::LogFormat;

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Sets the format of all lines that are printed after this call.
pub fn set_format(format: LogFormat) {
    FORMAT.get_or_init(|| format);
}

/// Returns true if progress bars may be drawn: stderr is a terminal, and its lines are text rather than JSON.
pub fn allows_bars() -> bool {
    FORMAT.get() != Some(&LogFormat::Json) && std::io::stderr().is_terminal()
}

/// Prints a message that is neither an error nor a warning.
pub fn say(line: fmt::Arguments<'_>) {
    print("INFO", "", &line.to_string(), Map::new());
}

/// Prints a warning, with the prefix `note: `.
pub fn note(remark: fmt::Arguments<'_>) {
    print("WARN", "note: ", &remark.to_string(), Map::new());
}

/// Prints the error that ended the command, with the prefix `vectile: `.
pub fn error(problem: fmt::Arguments<'_>) {
    print("ERROR", "vectile: ", &problem.to_string(), Map::new());
}

/// Prints a line with counts, such as the number of embedded texts. In the JSON format, `fields` are added to the line.
pub fn summary(line: &str, fields: Map<String, Value>) {
    print("INFO", "", line, fields);
}

/// Prints a line. An error of stderr, such as a closed pipe, is ignored and does not end the command.
fn print(level: &str, prefix: &str, message: &str, fields: Map<String, Value>) {
    let mut stderr = std::io::stderr().lock();
    let _ = match FORMAT.get() {
        Some(LogFormat::Json) => {
            let timestamp = jiff::Timestamp::now().to_string();
            let mut object = json!({ "timestamp": timestamp, "level": level, "message": message });
            if let Value::Object(object) = &mut object {
                object.extend(fields);
            }
            writeln!(stderr, "{object}")
        }
        _ => writeln!(stderr, "{prefix}{message}"),
    };
}
