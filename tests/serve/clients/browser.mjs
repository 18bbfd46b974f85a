// Starts a browser with a fresh profile for each test of the pages.
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(`${process.env.VECTILE_CLIENTS}/`)("playwright-core");
const QUIET = [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
];

/** Opens a page, calls `use(page, seen)` and closes everything. `seen` collects requests, console messages and errors. */
export async function browse(url, { theme = "light", width = 1280 }, use) {
  const profile = mkdtempSync(join(tmpdir(), "vectile-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.VECTILE_CHROMIUM,
    // QUIET selects the browser's new headless mode; this option would select the old one.
    headless: false,
    args: QUIET,
    colorScheme: theme,
    viewport: { width, height: 900 },
  });
  const seen = { requests: [], console: [], errors: [] };
  try {
    context.setDefaultTimeout(60_000);
    const page = context.pages()[0] ?? (await context.newPage());
    context.on("request", (request) => seen.requests.push(request.url()));
    page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => seen.errors.push(String(error)));
    await page.goto(url);
    return { ...(await use(page, seen)), ...seen };
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** The layout of the page: its width, the width it needs, and the minimum contrast of text with its background. */
export function layout(page) {
  return page.evaluate(() => {
    const parts = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
      const [r, g, b] = parts(color).slice(0, 3).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if ((parts(color)[3] ?? 1) > 0) return color;
      }
      return "rgb(255, 255, 255)";
    };
    let least = { contrast: Infinity };
    for (const element of document.querySelectorAll("body *")) {
      const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      if (!own || !element.checkVisibility()) continue;
      const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => x - y);
      const contrast = (b + 0.05) / (a + 0.05);
      if (contrast < least.contrast) least = { contrast, of: `${element.tagName} ${element.className}: ${element.textContent.slice(0, 40)}` };
    }
    return { width: innerWidth, needed: document.documentElement.scrollWidth, paper: light(getComputedStyle(document.body).backgroundColor), least };
  });
}

/** The focused element, and whether its focus is visible. */
export function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    return { id: element.id, name: element.tagName, says: element.getAttribute("aria-label") ?? element.textContent.slice(0, 60), visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
  });
}
