//! Options for the dialect of a CSV or TSV input: the delimiter, the quotation mark and the escape character.

use clap::Args;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct Dialect {
    /// Set the character that separates CSV or TSV values. `tab` means a tab.
    ///
    /// By default TSV uses a tab. CSV uses the character that a first line like `sep=;` names. Without such a line, CSV
    /// uses a comma, or a `;`, `|` or tab if the header has this character and no comma.
    #[arg(long, value_name = "CHAR", value_parser = parse_char)]
    pub delimiter: Option<u8>,
    /// Set the quotation mark of CSV or TSV values. `none` disables quotation marks.
    ///
    /// By default CSV uses `"`, and TSV has no quotation marks.
    #[arg(long, value_name = "CHAR|none", value_parser = parse_quote)]
    pub quote: Option<Quote>,
    /// Set the character that escapes a quotation mark inside quotes, for example '\'.
    ///
    /// By default a quotation mark inside quotes is written twice.
    #[arg(long, value_name = "CHAR", value_parser = parse_char)]
    pub escape: Option<u8>,
}

/// The value of `--quote`: a quotation mark, or the word `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    None,
    Char(u8),
}

impl Dialect {
    /// Returns the name of the first option in this struct that is set, or `None` if no option is set.
    pub fn first_option(&self) -> Option<&'static str> {
        match self {
            Dialect { delimiter: Some(_), .. } => Some("--delimiter"),
            Dialect { quote: Some(_), .. } => Some("--quote"),
            Dialect { escape: Some(_), .. } => Some("--escape"),
            _ => None,
        }
    }
}

fn parse_char(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\0' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("give one ASCII character, or `tab`".to_owned()),
    }
}

fn parse_quote(text: &str) -> Result<Quote, String> {
    match text {
        "none" | "" => Ok(Quote::None),
        _ => parse_char(text)
            .map(Quote::Char)
            .map_err(|_| "give one ASCII character, or `none`".to_owned()),
    }
}
