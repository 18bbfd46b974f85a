//! Evaluates the constants of a WGSL source without a parser of WGSL.
//!
//! naga evaluates them natively. The browser package contains no naga, because naga would take a seventh of its size.

/// The type of a table of constants: names and values, in the order of the source.
pub type Constants = Vec<(String, u32)>;

/// Returns every `const NAME: u32 = EXPRESSION;` line of a WGSL source that this module can evaluate.
///
/// An expression may contain u32 literals, names of earlier lines, parentheses, the operators `* / % + - << >>`, one
/// comparison, and the functions `min`, `max` and `select`. A constant with any other expression is left out, as is one
/// whose value does not fit in a u32.
pub fn evaluate(text: &str) -> Constants {
    let mut known = Constants::new();
    for line in text.lines() {
        let Some((name, rest)) =
            line.strip_prefix("const ").and_then(|rest| rest.split_once(": u32 = "))
        else {
            continue;
        };
        let Some(source) = rest.split_once(';').map(|(source, _)| source) else { continue };
        let mut expression = Expression { rest: source, known: &known };
        let value = expression.comparison().filter(|_| expression.rest.trim().is_empty());
        if let Some(value) = value.and_then(|value| u32::try_from(value).ok()) {
            known.push((name.to_owned(), value));
        }
    }
    known
}

/// Returns the value of a constant.
pub(super) fn value_of(known: &[(String, u32)], name: &str) -> Option<u32> {
    known.iter().find(|(each, _)| each == name).map(|(_, value)| *value)
}

/// An expression that is read from left to right.
struct Expression<'a> {
    /// The text that has not been read.
    rest: &'a str,
    /// The constants of earlier lines.
    known: &'a [(String, u32)],
}

impl<'a> Expression<'a> {
    /// Reads `token`. Returns true if the text continues with the token.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads a name or a number.
    fn word(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Returns the value of a sum, or 0 or 1 for a comparison of two sums.
    fn comparison(&mut self) -> Option<u64> {
        let left = self.shift()?;
        for (token, holds) in [
            ("<=", (|a, b| a <= b) as fn(u64, u64) -> bool),
            (">=", |a, b| a >= b),
            ("==", |a, b| a == b),
            ("!=", |a, b| a != b),
            ("<", |a, b| a < b),
            (">", |a, b| a > b),
        ] {
            if self.take(token) {
                return Some(u64::from(holds(left, self.shift()?)));
            }
        }
        Some(left)
    }

    fn shift(&mut self) -> Option<u64> {
        let left = self.sum()?;
        if self.take("<<") {
            return fits(left.checked_shl(self.sum()?.try_into().ok().filter(|by| *by < 32)?)?);
        }
        if self.take(">>") {
            return left.checked_shr(self.sum()?.try_into().ok().filter(|by| *by < 32)?);
        }
        Some(left)
    }

    fn sum(&mut self) -> Option<u64> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = fits(value + self.product()?)?;
            } else if self.take("-") {
                value = value.checked_sub(self.product()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<u64> {
        let mut value = self.operand()?;
        loop {
            if self.take("*") {
                value = fits(value * self.operand()?)?;
            } else if self.take("/") {
                value = value.checked_div(self.operand()?)?;
            } else if self.take("%") {
                value = value.checked_rem(self.operand()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn operand(&mut self) -> Option<u64> {
        if self.take("(") {
            let value = self.comparison()?;
            return self.take(")").then_some(value);
        }
        let word = self.word()?;
        if self.take("(") {
            let mut arguments = vec![self.comparison()?];
            while self.take(",") {
                arguments.push(self.comparison()?);
            }
            let closed = self.take(")");
            return match (word, arguments.as_slice()) {
                _ if !closed => None,
                ("min", [a, b]) => Some(*a.min(b)),
                ("max", [a, b]) => Some(*a.max(b)),
                ("select", [otherwise, value, condition]) => {
                    Some(if *condition == 0 { *otherwise } else { *value })
                }
                _ => None,
            };
        }
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            return value_of(self.known, word).map(u64::from);
        }
        let digits = word.strip_suffix('u')?;
        let number = match digits.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        number.ok().map(u64::from)
    }
}

/// Returns the value if a u32 can hold it.
fn fits(value: u64) -> Option<u64> {
    (value <= u64::from(u32::MAX)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{evaluate, value_of};

    /// Returns the value of `const X: u32 = EXPRESSION;` after a line for A = 6.
    fn value(expression: &str) -> Option<u32> {
        let text = format!("const A: u32 = 6u;\nconst X: u32 = {expression};\n");
        value_of(&evaluate(&text), "X")
    }

    #[test]
    fn expressions_have_the_values_of_wgsl() {
        for (expression, expected) in [
            ("7u + 2u * 3u", 13),
            ("(A + 1u) * 3u % 5u", 1),
            ("20u - 6u - 4u", 10),
            ("A / 4u * 4u", 4),
            ("max(A / 8u * 4u, 1u)", 1),
            ("select(1u, 2u, A <= 8u)", 2),
            ("select(1u, 2u, A != 6u)", 1),
            ("min((32u >> min(A % 32u, 1u)) >> min(A % 16u, 1u), 64u)", 8),
            ("0x80000000u", 0x8000_0000),
        ] {
            assert_eq!(value(expression), Some(expected), "{expression}");
        }
    }

    #[test]
    fn expressions_without_a_value_are_left_out() {
        for expression in [
            "B",
            "A + ",
            "A A",
            "1",
            "1f",
            "(A",
            "A)",
            "min(A)",
            "clamp(A, 1u, 2u)",
            "A / 0u",
            "A % 0u",
            "A - 7u",
            "4294967295u + 1u",
            "4294967295u * 4294967295u",
            "1u << 32u",
            "A & 1u",
            "",
            "-1u",
        ] {
            assert_eq!(value(expression), None, "{expression}");
        }
    }
}
