//! Tests the page in Chromium: its layout on wide and narrow screens, both themes, console messages and requests.
//!
//! Without Chromium, these tests are skipped with a message. If `VECTILE_REQUIRE_CHROMIUM` is set, they fail instead.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vectile::lab::html;

use crate::page::has_every_number;
use crate::sample::{PRECISIONS, report};
use crate::support::chromium;

/// Returns the document after loading, and the messages on the console.
fn load(program: &Path, page: &str, options: &[&str]) -> (String, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    std::fs::write(&file, page).unwrap();
    let output = Command::new(program)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0", "--dump-dom"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .args(options)
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8(output.stdout).unwrap(), console)
}

/// A script that measures the layout from within the page.
const MEASURE: &str = r#"<script>
const found = { errors: [], clipped: [], covered: [] };
const rgb = (color) => color.match(/[\d.]+/g).slice(0, 3).map((part) => {
  const share = part / 255;
  return share <= 0.03928 ? share / 12.92 : Math.pow((share + 0.055) / 1.055, 2.4);
});
const light = (color) => { const [r, g, b] = rgb(color); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort(); return (y + 0.05) / (x + 0.05); };
addEventListener("load", () => {
  const paper = getComputedStyle(document.body).backgroundColor;
  found.paper = light(paper);
  found.width = innerWidth;
  found.scroll = document.documentElement.scrollWidth;
  found.resources = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.contrast = contrast(paper, getComputedStyle(document.body).color);
  found.plots = document.querySelectorAll("figure svg").length;
  found.size = Infinity;
  for (const svg of document.querySelectorAll("figure svg")) {
    const outer = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")];
    const boxes = texts.map((text) => text.getBoundingClientRect());
    texts.forEach((text, i) => {
      const box = boxes[i], say = text.textContent.trim();
      found.contrast = Math.min(found.contrast, contrast(paper, getComputedStyle(text).fill));
      found.size = Math.min(found.size, Math.max(box.height, 0));
      if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.top < outer.top - 1 || box.bottom > outer.bottom + 1) found.clipped.push(say);
      for (let j = 0; j < i; j++) {
        const other = boxes[j];
        const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const high = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        if (wide > 2 && high > 5) found.covered.push(say + " and " + texts[j].textContent.trim());
      }
    });
  }
  parent.document.body.insertAdjacentHTML("beforeend", "<pre id=measured>" + encodeURIComponent(JSON.stringify(found)) + "</pre>");
});
</script></body>"#;

/// Measures the page at a width. The page's content security policy is removed, because it would block the script.
/// The page is in a frame, because windows have a minimum width.
fn measured(program: &Path, page: &str, width: u32, options: &[&str]) -> Value {
    let (before, rest) = page.split_once("<meta http-equiv=\"Content-Security-Policy\"").unwrap();
    let (_, after) = rest.split_once('>').unwrap();
    let page = format!("{before}{}", after.replace("</body>", MEASURE));
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    let page = format!(
        "<!DOCTYPE html><html style=\"color-scheme: light dark\"><body>\
         <iframe style=\"border: 0; width: {width}px; height: 844px\" srcdoc=\"{page}\"></iframe></body></html>"
    );
    let (dom, console) = load(program, &page, options);
    assert!(console.is_empty(), "{console:?}");
    let (_, rest) = dom.split_once("<pre id=\"measured\">").unwrap();
    serde_json::from_str(&decoded(rest.split_once("</pre>").unwrap().0)).unwrap()
}

/// Decodes a text that `encodeURIComponent` encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_browser_shows_every_plot_and_every_number() {
    let Some(program) = chromium() else { return };
    let report = report();
    let (dom, console) = load(&program, &html(&report).unwrap(), &[]);
    assert!(console.is_empty(), "{console:?}");
    has_every_number(&dom, &report);
    let plots: Vec<&str> =
        dom.split("<svg ").skip(1).map(|rest| rest.split_once("</svg>").unwrap().0).collect();
    // There are five kinds of plots, and two of them are of throughput. The second adapter has no times of kernels.
    assert_eq!(plots.len(), 6 + 5);
    // The labels of bars and points are the names of precisions.
    for name in PRECISIONS {
        let text = format!(">\n{name}\n</text>");
        let with = plots.iter().filter(|plot| plot.contains(&text)).count();
        assert!(with >= 4, "{name}: {with}");
    }
    for title in [
        "Speed against accuracy",
        "Throughput with at most 2048 tokens per batch",
        "GPU time by kernel",
        "Memory",
        "Cold start",
    ] {
        assert_eq!(dom.matches(&format!("<h4>{title}</h4>")).count(), 2, "{title}");
    }
    assert!(dom.contains("GPU time was not measured: this adapter has no timestamps."));
    assert_eq!(dom.matches("role=\"img\" aria-label=\"").count(), plots.len());
}

#[test]
fn the_page_is_legible_on_wide_and_narrow_screens_in_both_themes() {
    let Some(program) = chromium() else { return };
    let page = html(&report()).unwrap();
    for (width, theme) in [(1280, 1), (390, 0)] {
        // In this option, 0 means dark and 1 means light.
        let theme_option = format!("--blink-settings=preferredColorScheme={theme}");
        let found = measured(&program, &page, width, &[&theme_option, "--window-size=1400,900"]);
        assert_eq!(found["width"], width);
        assert_eq!(found["plots"], 11);
        assert_eq!(found["resources"], serde_json::json!([]));
        assert!(found["scroll"].as_f64() <= found["width"].as_f64(), "{found}");
        assert_eq!(found["clipped"], serde_json::json!([]), "at {width}");
        assert_eq!(found["covered"], serde_json::json!([]), "at {width}");
        let paper = found["paper"].as_f64().unwrap();
        assert!(if theme == 0 { paper < 0.1 } else { paper > 0.9 }, "{found}");
        assert!(found["contrast"].as_f64().unwrap() >= 4.5, "{found}");
        assert!(found["size"].as_f64().unwrap() >= 9.0, "{found}");
    }
}
