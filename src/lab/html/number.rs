//! Shows rounded numbers, with the exact number in the attribute `value` of the element.

use maud::{Markup, html};

use crate::lab::report::Ratio;

/// Returns an element that shows the text `shown`, with the exact number in the attribute `value`.
pub(super) fn data(value: f64, shown: &str) -> Markup {
    html! { data value=(value) { (shown) } }
}

/// Returns a number with three significant digits. An integer part of more than three digits is shown in full.
pub(super) fn text(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size < 1e-3 {
        return format!("{value:.2e}");
    }
    let before = size.log10().floor() as i32 + 1;
    format!("{value:.*}", (3 - before).max(0) as usize)
}

pub(super) fn number(value: f64) -> Markup {
    data(value, &text(value))
}

pub(super) fn optional(value: Option<f64>) -> Markup {
    value.map_or_else(|| html! { "–" }, number)
}

pub(super) fn count(value: usize) -> Markup {
    data(value as f64, &value.to_string())
}

/// Returns a number of bytes in a suitable unit, such as MiB.
pub(super) fn bytes_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{} {}", text(value), units[unit]),
    }
}

pub(super) fn bytes(bytes: u64) -> Markup {
    data(bytes as f64, &bytes_text(bytes))
}

pub(super) fn percent(share: f64) -> Markup {
    data(share, &format!("{:.1}%", share * 100.0))
}

/// Returns a cosine with nine decimals, because cosines of interest differ only in their small distance from 1.
pub(super) fn cosine(cosine: f64) -> Markup {
    data(cosine, &format!("{cosine:.9}"))
}

/// Returns a ratio with its minimum and maximum as plain text, for sentences and labels.
pub(super) fn ratio_text(ratio: Ratio) -> String {
    format!("{:.2}× ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
}

pub(super) fn ratio(ratio: Ratio) -> Markup {
    let two = |value: f64| data(value, &format!("{value:.2}"));
    html! { (two(ratio.median)) "× (" (two(ratio.low)) "–" (two(ratio.high)) ")" }
}

/// Returns the median, minimum and maximum of a quantity such as a time.
pub(super) fn spread(spread: Ratio) -> Markup {
    html! { (number(spread.median)) " (" (number(spread.low)) "–" (number(spread.high)) ")" }
}

/// Returns a cosine rounded down to few digits, so that the cosine is at least the number shown.
pub(super) fn cosine_floor(cosine: f64) -> String {
    let away = 1.0 - cosine;
    if away <= 0.0 {
        return "1".to_owned();
    }
    // The number of digits is limited to twelve, because further digits of a cosine near 1 contain only rounding
    // errors.
    let digits = (-away.log10()).ceil().clamp(2.0, 12.0) as usize;
    let unit = 10f64.powi(digits as i32);
    format!("{:.digits$}", (cosine * unit).floor() / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_least_three_digits() {
        for (value, shown) in [
            (0.0, "0"),
            (1234.4, "1234"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.01234, "0.0123"),
            (0.000_012_3, "1.23e-5"),
            (-0.5, "-0.500"),
        ] {
            assert_eq!(text(value), shown);
        }
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (90 << 20, "90.0 MiB")]
        {
            assert_eq!(bytes_text(bytes), shown);
        }
    }

    #[test]
    fn a_cosine_is_never_below_its_rounded_text() {
        for (cosine, shown) in [
            (1.0, "1"),
            (0.999_999_12, "0.9999991"),
            (0.9951, "0.995"),
            (0.5, "0.50"),
            (-0.2, "-0.20"),
        ] {
            assert_eq!(cosine_floor(cosine), shown);
            assert!(cosine_floor(cosine).parse::<f64>().unwrap() <= cosine);
        }
    }
}
