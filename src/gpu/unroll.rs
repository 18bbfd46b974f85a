//! Unrolls loops of WGSL, so that arrays in registers are indexed by constants.
//!
//! naga translates every loop to `while (true)`, and some drivers do not unroll such a loop. An array that the loop's
//! variable indexes may then be placed in memory instead of registers. If a loop is to be unrolled, its first line ends
//! with a directive:
//!
//! ```wgsl
//! for (var i = 0u; i < BOUND; i++) { // unrolled
//! ```
//!
//! BOUND must be the name of a `const` of the WGSL source. naga evaluates the constant, and `constants.rs` does in
//! browsers. The loop is replaced by BOUND copies of its body, in which a number replaces `i`. A loop with the directive
//! `// unrolled up to 16` stays a loop if BOUND is larger, since drivers take long to compile the copies. The source is
//! valid WGSL before and after unrolling, and both versions compute the same results.

use super::constants::{Constants, value_of};

/// The directive at the end of a loop's first line.
const DIRECTIVE: &str = "{ // unrolled";

/// The maximum number of bytes of a WGSL source after unrolling. Without a maximum, a large bound or several nested
/// loops could fill the memory, or make a source that a driver compiles for minutes.
const MOST_BYTES: usize = 1 << 20;

/// Unrolls the loops of a WGSL source that have the directive.
///
/// # Errors
/// Returns a sentence about a loop that has the directive but cannot be unrolled, or about a source that naga does not
/// parse.
pub(super) fn unroll(text: &str) -> Result<String, String> {
    if !text.contains(DIRECTIVE) {
        return Ok(text.to_owned());
    }
    let constants = constants_of(text)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut out = String::with_capacity(text.len() * 4);
    unroll_lines(&lines, &constants, &mut out)?;
    Ok(out)
}

fn unroll_lines(
    lines: &[String],
    constants: &[(String, u32)],
    out: &mut String,
) -> Result<(), String> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some((start, most)) = directive(line)? else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let (name, bound) = head(start).ok_or_else(|| {
            format!("this loop cannot be unrolled; it must count up by one from `0u`: {line}")
        })?;
        let times = value(bound, constants).ok_or_else(|| {
            format!("the loop's bound `{bound}` is not a constant of the shader: {line}")
        })?;
        if most.is_some_and(|most| times > most) {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        // The WGSL source is formatted, so the loop's block ends at the next `}` with the loop's indentation.
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", &line[..indent]);
        let length = lines[at..]
            .iter()
            .position(|line| *line == closing)
            .ok_or_else(|| format!("the loop has no closing brace: {line}"))?;
        let body = &lines[at..at + length];
        at += length + 1;
        for index in 0..times {
            let number = format!("{index}u");
            let copy: Vec<String> =
                body.iter().map(|line| replace_word(line, name, &number)).collect();
            // Each copy of the loop's body is a separate block, so that all copies may declare the same names.
            out.push_str(&format!("{}{{\n", &line[..indent]));
            unroll_lines(&copy, constants, out)?;
            out.push_str(&format!("{closing}\n"));
            if out.len() > MOST_BYTES {
                return Err(format!(
                    "the loop's {times} copies make the shader longer than {MOST_BYTES} bytes; give its constants \
                     smaller values, or write `// unrolled up to` a smaller number: {line}"
                ));
            }
        }
    }
    Ok(())
}

/// Returns the part of a line before its directive, and the maximum that the directive names, if any. Returns `None` if
/// the line has no directive.
fn directive(line: &str) -> Result<Option<(&str, Option<u32>)>, String> {
    let Some((start, rest)) = line.split_once(DIRECTIVE) else { return Ok(None) };
    match rest.strip_prefix(" up to ").map(str::parse) {
        Some(Ok(most)) => Ok(Some((start, Some(most)))),
        None if rest.is_empty() => Ok(Some((start, None))),
        _ => {
            Err(format!("this loop cannot be unrolled; it must count up by one from `0u`: {line}"))
        }
    }
}

/// Returns the variable and the bound of a loop that counts up from zero.
fn head(line: &str) -> Option<(&str, &str)> {
    let head = line.trim_start().strip_prefix("for (var ")?;
    let (name, rest) = head.split_once(" = 0u; ")?;
    let bound = rest.strip_prefix(name)?.strip_prefix(" < ")?;
    let (bound, rest) = bound.split_once("; ")?;
    (rest.strip_prefix(name)? == "++) ").then_some((name, bound))
}

/// Returns the u32 constants of a WGSL source.
#[cfg(not(target_arch = "wasm32"))]
fn constants_of(text: &str) -> Result<Constants, String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let constants = module.constants.iter().filter_map(|(_, constant)| {
        match module.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(number)) => {
                Some((constant.name.clone()?, number))
            }
            _ => None,
        }
    });
    Ok(constants.collect())
}

/// Returns the u32 constants of a WGSL source.
#[cfg(target_arch = "wasm32")]
fn constants_of(text: &str) -> Result<Constants, String> {
    Ok(super::constants::evaluate(text))
}

/// Returns the value of a loop's bound, which is a literal or a constant.
fn value(bound: &str, constants: &[(String, u32)]) -> Option<u32> {
    if let Some(number) = bound.strip_suffix('u').and_then(|digits| digits.parse().ok()) {
        return Some(number);
    }
    value_of(constants, bound)
}

/// Replaces a word in a line, except where the word is part of another identifier or the name of a field.
fn replace_word(line: &str, word: &str, with: &str) -> String {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(found) = rest.find(word) {
        let (before, after) = (&rest[..found], &rest[found + word.len()..]);
        out.push_str(before);
        let alone = !out.ends_with(part_of_a_word)
            && !out.ends_with('.')
            && !after.starts_with(part_of_a_word);
        out.push_str(if alone { with } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::{replace_word, unroll};

    const NESTED: &str = "\
const N: u32 = 2u * 2u / 2u;

fn f(rr: u32) -> u32 {
    var sum = 0u;
    for (var r = 0u; r < N; r++) { // unrolled
        let term = rr + r;
        for (var c = 0u; c < 3u; c++) { // unrolled
            sum += term * c;
        }
    }
    return sum;
}
";

    #[test]
    fn nested_loops_are_unrolled_and_stay_valid_wgsl() {
        let text = unroll(NESTED).unwrap();
        assert!(!text.contains("for ("), "{text}");
        for line in ["let term = rr + 0u;", "let term = rr + 1u;", "sum += term * 2u;"] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.matches("sum += term").count(), 6, "{text}");
        naga::front::wgsl::parse_str(&text).unwrap();
    }

    #[test]
    fn text_without_a_directive_is_unchanged() {
        let text = NESTED.replace(" // unrolled", "");
        assert_eq!(unroll(&text).unwrap(), text);
    }

    #[test]
    fn a_loop_that_cannot_be_unrolled_is_named() {
        for (from, to) in [("r = 0u", "r = 1u"), ("r < N", "r < rr"), ("r++", "r += 2u")] {
            let error = unroll(&NESTED.replace(from, to)).unwrap_err();
            assert!(error.contains("for (var r"), "{error}");
        }
    }

    #[test]
    fn loops_that_would_fill_the_memory_are_refused() {
        for text in [
            NESTED.replace("2u * 2u / 2u", "4294967295u"),
            NESTED.replace("2u * 2u / 2u", "30000u").replace("c < 3u", "c < 30000u"),
            NESTED.replace("sum += term * c;", "").replace("c < 3u", "c < 4294967295u"),
        ] {
            let error = unroll(&text).unwrap_err();
            assert!(error.contains("longer than") && error.contains("for (var "), "{error}");
        }
    }

    #[test]
    fn loops_above_the_maximum_of_their_directive_stay() {
        let text = NESTED.replace("r++) { // unrolled", "r++) { // unrolled up to 1");
        let text = unroll(&text).unwrap();
        assert!(text.contains("for (var r"), "{text}");
        assert_eq!(text.matches("sum += term").count(), 3, "{text}");
        let text = unroll(&NESTED.replace("// unrolled", "// unrolled up to 3")).unwrap();
        assert!(!text.contains("for ("), "{text}");
        assert!(unroll(&NESTED.replace("// unrolled", "// unrolled up to")).is_err());
    }

    #[test]
    fn only_whole_words_are_replaced() {
        let line = replace_word("r + rr + x.r + r2 + a_r * r[r]", "r", "1u");
        assert_eq!(line, "1u + rr + x.r + r2 + a_r * 1u[1u]");
    }
}
