//! Tests the pages in a browser. They are driven by keyboard, in the light and the dark theme, on a desktop and on a
//! phone.

use serde_json::{Value, json};

use crate::asked::{MODEL, browser, program_says, run, url};
use crate::program::Program;
use crate::support::fixture;

const LINES: [&str; 4] = [
    "A cat sat on the warm tin roof.",
    "the same text twice",
    "A kitten sat on a roof.",
    "smile and wave",
];
const QUERY: &str = "where is the cat?";

/// Checks that the page requested only its own server and reported no error.
fn no_errors(told: &Value, url: &str) {
    let requests = told["requests"].as_array().unwrap();
    assert!(requests.len() > 5);
    for request in requests {
        assert!(request.as_str().unwrap().starts_with(&format!("{url}/")), "{request}");
    }
    assert_eq!(told["console"], json!([]));
    assert_eq!(told["errors"], json!([]));
}

/// Checks that the layout fits the width, uses the theme's colours and has enough contrast.
fn legible(layout: &Value, width: u64, theme: &str) {
    assert_eq!(layout["width"], width);
    assert!(layout["needed"].as_u64().unwrap() <= width, "{layout}");
    let paper = layout["paper"].as_f64().unwrap();
    assert!(if theme == "dark" { paper < 0.1 } else { paper > 0.9 }, "{layout}");
    assert!(layout["least"]["contrast"].as_f64().unwrap() >= 4.5, "{layout}");
}

/// Drives the page by keyboard and compares its results with the program's.
fn page(width: u64, theme: &str) {
    let Some(browser) = browser() else { return };
    let program = Program::start(&[fixture(MODEL)], &["--api-key", "secret"]);
    let given =
        json!({ "theme": theme, "width": width, "key": "secret", "lines": LINES, "query": QUERY });
    let told = run(browser, "use_page.mjs", &[&url(&program), &given.to_string()]);
    no_errors(&told, &url(&program));

    // The page shows the server's message, which says that a key is needed.
    assert!(told["refused"].as_str().unwrap().contains("key"), "{}", told["refused"]);
    assert_eq!(told["refused"], told["wrongKey"]);
    assert_eq!(told["expected"].as_array().unwrap().len(), 1);
    assert_eq!(told["asked"], json!([]));
    let facts = &told["facts"];
    assert_eq!((&facts["Model"], &facts["Dimensions"]), (&json!(MODEL), &json!("48")));
    let inspected: Value = serde_json::from_str(&program_says("inspect", &["--json"])).unwrap();
    let adapter = inspected["adapter"]["name"].as_str().unwrap();
    assert!(facts["Adapter"].as_str().unwrap().contains(adapter), "{facts}");
    assert!(facts["Precision"].as_str().unwrap().contains("f32"), "{facts}");

    // The matrix must equal the output of `vectile similarity`.
    assert_eq!(told["count"], "4 texts");
    for (i, a) in LINES.iter().enumerate() {
        for (j, b) in LINES.iter().enumerate().skip(i) {
            let cosine = program_says("similarity", &[a, b]);
            for (i, j) in [(i, j), (j, i)] {
                let cell = &told["cells"][i][j];
                let says = format!("{} and {}: {}", i + 1, j + 1, cosine.trim());
                assert_eq!(cell["says"], says);
                let shown: f64 = cell["shows"].as_str().unwrap().parse().unwrap();
                assert!((shown - cosine.trim().parse::<f64>().unwrap()).abs() < 0.0051);
            }
        }
    }
    let pointed = told["pointed"].as_str().unwrap();
    let cosine = program_says("similarity", &LINES[..2]);
    for word in [cosine.trim(), LINES[0], LINES[1]] {
        assert!(pointed.contains(word), "{pointed}");
    }
    assert_eq!(told["cell"]["says"], format!("1 and 2: {}", cosine.trim()));
    let nearest = told["nearest"].as_str().unwrap();
    assert!(nearest.contains("the nearest pair"), "{nearest}");
    assert!(told["status"].as_str().unwrap().starts_with("4 texts, 6 pairs, in "));
    assert_eq!(told["stretched"]["changed"], true);

    // The search must equal the output of `vectile search`.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lines.txt");
    std::fs::write(&file, LINES.join("\n")).unwrap();
    let found = program_says("search", &[QUERY, "--in", file.to_str().unwrap()]);
    let found: Vec<Value> = found
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            json!({ "score": words[1], "text": words[3..].join(" ") })
        })
        .collect();
    assert_eq!(told["found"], json!(found));

    for layout in told["layouts"].as_array().unwrap() {
        legible(layout, width, theme);
    }
    for stop in told["stops"].as_array().unwrap() {
        assert_eq!(stop["visible"], true, "{stop}");
    }
}

#[test]
fn the_page_on_a_desktop_in_the_light_theme() {
    page(1280, "light");
}

#[test]
fn the_page_on_a_phone_in_the_dark_theme() {
    page(390, "dark");
}

/// Sends the example of every route on the API page.
fn docs(width: u64, theme: &str) {
    let Some(browser) = browser() else { return };
    let models = [fixture(MODEL), fixture("rerankers/bert"), fixture("sparse/distilbert")];
    let program = Program::start(&models, &["--api-key", "secret"]);
    let given = json!({ "theme": theme, "width": width, "key": "secret" });
    let told = run(browser, "use_docs.mjs", &[&url(&program), &given.to_string()]);
    no_errors(&told, &url(&program));
    legible(&told["layout"], width, theme);
    let calls = told["calls"].as_array().unwrap();
    for call in calls {
        assert_eq!(call["status"], "200 OK", "{call}");
        assert!(call["curl"].as_str().unwrap().contains(&url(&program)), "{call}");
    }
    let of = |name: &str| calls.iter().find(|call| call["name"] == name).unwrap();
    let embeddings = of("POST /v1/embeddings");
    assert!(embeddings["answer"].as_str().unwrap().contains("\"embedding\": ["), "{embeddings}");
    for field in ["input", "encoding_format", "dimensions", "data"] {
        assert!(embeddings["fields"].as_array().unwrap().contains(&json!(field)), "{field}");
    }
    for name in ["GET /info", "GET /v1/models", "POST /embed", "POST /embed_sparse"] {
        of(name);
    }
    for name in ["POST /rerank", "POST /v1/rerank", "POST /similarity", "POST /api/embed"] {
        of(name);
    }
    for name in ["POST /v2/embed", "POST /v2/rerank", "POST /predict", "POST /embed_all", "POST /"]
    {
        of(name);
    }
}

#[test]
fn every_route_can_be_tried_on_a_desktop_in_the_dark_theme() {
    docs(1280, "dark");
}

#[test]
fn every_route_can_be_tried_on_a_phone_in_the_light_theme() {
    docs(390, "light");
}
