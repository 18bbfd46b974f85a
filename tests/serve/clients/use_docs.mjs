// Opens every route on the API page and sends its example; prints the responses as JSON.
// Arguments: address, {theme, width, key, shot?}.
import { browse, layout } from "./browser.mjs";

const [address, given] = process.argv.slice(2);
const { theme, width, key, shot } = JSON.parse(given);

const told = await browse(`${address}/docs`, { theme, width }, async (page, seen) => {
  await page.evaluate((value) => sessionStorage.setItem("vectile-api-key", value), key);
  await page.reload();
  await page.waitForSelector("details.call");
  seen.console.splice(0);
  const calls = [];
  for (const call of await page.$$("details.call")) {
    const name = await call.$eval("summary", (one) => `${one.querySelector(".method").textContent} ${one.querySelector("code").textContent}`);
    await call.$eval("summary", (one) => one.focus());
    await page.keyboard.press("Enter");
    const send = await call.waitForSelector("form.try button.main");
    const fields = await call.$$eval(".fields th code", (all) => all.map((one) => one.textContent));
    await send.click();
    const status = await (await call.waitForSelector(".line strong")).textContent();
    const answer = await call.$eval(".answer pre", (one) => one.textContent).catch(() => "");
    const curl = await call.$eval("form.try details pre", (one) => one.textContent);
    calls.push({ name, status, answer: answer.slice(0, 2000), curl, fields });
  }
  const laid = await layout(page);
  if (shot) await page.screenshot({ path: shot, fullPage: true });
  return { calls, layout: laid };
});
console.log(JSON.stringify(told));
