// Uses the start page by keyboard only: texts, their matrix, a search; prints what it sees as JSON.
// Arguments: address, {theme, width, key, lines, query, shot?}.
import { browse, focused, layout } from "./browser.mjs";

const [address, given] = process.argv.slice(2);
const { theme, width, key, lines, query, shot } = JSON.parse(given);

const told = await browse(`${address}/`, { theme, width }, async (page, seen) => {
  const stops = [];
  /** Presses Tab until the focused element has this id or tag name, and records every stop. */
  const reach = async (wanted) => {
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press("Tab");
      const stop = await focused(page);
      stops.push(stop);
      if (stop.id === wanted || stop.name === wanted) return;
    }
    throw new Error(`${wanted} is not reachable with Tab: ${JSON.stringify(stops)}`);
  };

  await page.waitForSelector("#key:not([hidden])");
  const refused = await page.textContent("#facts");
  await page.keyboard.type(key);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("#facts dt").length > 3);
  const facts = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#facts div")].map((one) => [one.children[0].textContent, one.children[1].textContent])));
  // The server's refusal of the first call is on the console, as it must be.
  const expected = seen.console.splice(0);

  await reach("texts");
  await page.keyboard.type(lines.join("\n"));
  const count = await page.textContent("#count");
  await reach("compare");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".matrix td[tabindex='0']");
  const cells = await page.$$eval(".matrix tbody tr", (rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => ({ says: cell.getAttribute("aria-label"), shows: cell.textContent }))));
  const nearest = await page.textContent("#readout");
  await reach("TD");
  await page.keyboard.press("Control+Home");
  await page.keyboard.press("ArrowRight");
  const pointed = await page.textContent("#readout");
  const cell = await focused(page);
  const status = await page.textContent("#compare-status");

  await reach("stretch");
  const paper = () => page.$$eval(".matrix td[aria-label]", (all) => all.map((one) => getComputedStyle(one).backgroundColor));
  const before = await paper();
  await page.keyboard.press("Space");
  const after = await paper();
  const stretched = { changed: before.some((color, i) => color !== after[i]), ends: await page.textContent("#ramp-ends") };
  const layouts = [await layout(page)];
  await page.keyboard.press("Space");

  await reach("query");
  await page.keyboard.type(query);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#found li");
  const found = await page.$$eval("#found li", (all) => all.map((one) => ({ score: one.querySelector(".score").textContent, text: one.querySelector(".text").textContent })));
  layouts.push(await layout(page));
  if (shot) await page.screenshot({ path: shot, fullPage: true });
  const asked = seen.console.splice(0);

  // A wrong key, for which the page shows the server's message.
  await page.evaluate(() => sessionStorage.setItem("vectile-api-key", "wrong"));
  await page.reload();
  await page.waitForSelector("#key:not([hidden])");
  const wrongKey = await page.textContent("#facts");
  layouts.push(await layout(page));
  seen.console.splice(0);
  return { refused, facts, expected, count, cells, nearest, pointed, cell, status, stretched, found, layouts, asked, wrongKey, stops };
});
console.log(JSON.stringify(told));
