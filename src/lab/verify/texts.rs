//! Provides the built-in texts to measure on.

/// Short passages on everyday topics, one per line.
const PASSAGES: &str = include_str!("../../../examples/collection.txt");

/// The number of passages that are selected, at even distances in the file.
const TAKEN: usize = 16;

/// Texts that differ from English prose: other scripts, code, numbers, an empty text, and one word repeated many times.
const ODD: &[&str] = &[
    "",
    "a",
    "!!! ??? ... --- ***",
    "3.14159265358979 -273.15 6.02214076e23 192.168.0.1 2024-02-29T23:59:60Z",
    "ANNOUNCEMENT: THE LIBRARY CLOSES EARLY TODAY",
    "fn main() { let x: Vec<f32> = (0..10).map(|i| i as f32 / 3.0).collect(); println!(\"{x:?}\"); }",
    "<p class=\"lead\">Fish &amp; chips</p> {\"price\": 9.99, \"tags\": [\"hot\", null]}",
    "https://example.org/search?q=embeddings&lang=en#results user.name+tag@example.org",
    "Die Straßenbahn fährt über die Brücke, où l'été dernier nous avons mangé des crêpes.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "今日は天気がいいので、公園へ散歩に行きましょう。我们明天见。",
    "اللغة العربية جميلة ومليئة بالشعر",
    "👍🏽 👩‍👩‍👧 🇫🇷 ❤️ ✨✨✨",
    "the the the the the the the the the the the the the the the the the the the the the the the the",
];

/// Returns varied texts, and two texts of `longest` words each, from different parts of the passages. The model
/// truncates the two long texts to its own limit.
pub(super) fn built_in(longest: usize) -> Vec<String> {
    let passages: Vec<&str> = PASSAGES.lines().collect();
    let step = (passages.len() / TAKEN).max(1);
    let taken = passages.iter().step_by(step).take(TAKEN);
    let mut texts: Vec<String> = taken.chain(ODD).map(|text| (*text).to_owned()).collect();
    let words: Vec<&str> = PASSAGES.split_whitespace().collect();
    for start in [0, words.len() / 2] {
        let long: Vec<&str> = words.iter().cycle().skip(start).take(longest).copied().collect();
        texts.push(long.join(" "));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::built_in;

    #[test]
    fn built_in_texts_are_varied_and_as_long_as_asked_for() {
        let texts = built_in(5000);
        assert_eq!(texts.len(), 16 + 14 + 2);
        let words = |text: &String| text.split_whitespace().count();
        assert_eq!(texts.iter().map(words).max(), Some(5000));
        let mut distinct = texts.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), texts.len());
    }
}
