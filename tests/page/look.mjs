// Looks at the status page in a real browser, as a person would: at a desk and on
// a phone, by day and by night, while lines flow, while the upstream is down and
// while the daemon is gone. Last line: how many checks passed and failed.

import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import { Client, Daemon, KEY, Upstream, browse, until } from "./stage.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = [1280, 380].flatMap((width) => ["light", "dark"].map((scheme) => ({ width, scheme })));
// A page asks every second.
const SOON = 5000;

let passed = 0;
let failed = 0;
const check = async (what, holds) => {
  let complaint;
  try {
    const result = await holds();
    complaint = result === true || result === undefined ? null : String(result);
  } catch (error) {
    complaint = error.message;
  }
  if (complaint === null) {
    passed += 1;
    console.log(`ok    ${what}`);
  } else {
    failed += 1;
    console.log(`FAIL  ${what}: ${complaint}`);
  }
};

const upstream = new Upstream();
await upstream.live();
const daemon = new Daemon(process.argv[2], upstream);
const browser = await browse();
const clients = [];

// A page that notes what it should not do.
const open = async ({ width = 1280, scheme = "light", ...options } = {}) => {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: scheme, ...options });
  const page = await context.newPage();
  const seen = { errors: [], requests: [], dialogs: 0 };
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("dialog", (dialog) => {
    seen.dialogs += 1;
    dialog.dismiss();
  });
  await page.goto(daemon.origin);
  await page.waitForFunction(() => document.getElementById("pulse").textContent.startsWith("Live"));
  return { page, seen, close: () => context.close() };
};

const text = (page, id) => page.evaluate((id) => document.getElementById(id).textContent, id);
const path = (page, plot) => page.evaluate((plot) => document.querySelector(`#${plot} .stroke`).getAttribute("d"), plot);

const changes = async (read) => {
  const before = await read();
  await until(`a change of ${JSON.stringify(before).slice(0, 60)}`, async () => (await read()) !== before);
};

// Text that must show soon.
const says = (page, id, words) =>
  page
    .waitForFunction(([id, words]) => document.getElementById(id).innerText.includes(words), [id, words], { timeout: SOON })
    .then(() => true)
    .catch(async () => `"${await text(page, id)}" and not "${words}"`);

const serious = async (page) => {
  // By way of the debugger, which the page's policy does not bind.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run(document));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return grave.length === 0 || grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`).join("; ");
};

const fits = (page) =>
  page.evaluate(() => {
    const { scrollWidth } = document.documentElement;
    return scrollWidth <= innerWidth || `${scrollWidth} pixels wide`;
  });

const loads = async ({ width, scheme }) => {
  const view = `${width} pixels, ${scheme}`;
  const { page, seen, close } = await open({ width, scheme });
  await check(`${view}: numbers move`, () => changes(() => text(page, "delivered-total")));
  await check(`${view}: the plot of lines moves`, () => changes(() => path(page, "plot-lines")));
  await check(`${view}: the plot of memory moves`, () => changes(() => path(page, "plot-queue")));
  await check(`${view}: it says that all is well`, () => says(page, "headline", "All is well"));
  await check(`${view}: nothing to scroll sideways`, () => fits(page));
  await check(`${view}: axe finds nothing serious`, () => serious(page));
  await check(`${view}: nothing on the console`, () => seen.errors.length === 0 || seen.errors.join("; "));
  await check(`${view}: no request to anywhere else`, () => {
    const elsewhere = seen.requests.filter((url) => !url.startsWith(`${daemon.origin}/`) && !url.startsWith("data:"));
    return elsewhere.length === 0 || elsewhere.join(" ");
  });
  await check(`${view}: the colours are those of the scheme`, async () => {
    const colour = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const brightness = Number(colour.match(/\d+/)[0]);
    return scheme === "light" ? brightness > 200 : brightness < 60 || colour;
  });
  await close();
};

const rejects = async ({ page, seen }) => {
  const line = "shop.<script>alert(1)</script><img/src=x/onerror=alert(2)> oops";
  clients[0].say(`${line}\n`);
  clients[1].say("one two three four\n");
  await check("a rejected line shows, as it was written", () => says(page, "rejected", line));
  await check("with its reason", () => says(page, "rejected", "value"));
  await check("with its sender's address", () => says(page, "rejected", "127.0.0.1:"));
  await check("with its sender's process on a Unix socket", () => says(page, "rejected", `pid ${process.pid} uid ${process.getuid()}`));
  await check("and nothing of it runs", async () => {
    const elements = await page.evaluate(() => document.querySelectorAll("#rejected script, #rejected img").length);
    return (elements === 0 && seen.dialogs === 0) || `${elements} elements, ${seen.dialogs} dialogs`;
  });
};

const isPatched = async ({ page }) => {
  await page.evaluate(() => (document.querySelector("#listeners li").isTheSame = true));
  await changes(() => text(page, "rate-in"));
  await check("elements are patched, not replaced", () => page.evaluate(() => document.querySelector("#listeners li").isTheSame === true));
};

const keyboard = async ({ page }) => {
  await page.locator("#plot-lines .canvas").focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await check("arrow keys move through a plot, and it is spoken", async () => {
    const spoken = await page.evaluate(() => document.querySelector("#plot-lines .spoken").textContent);
    return /\d\d:\d\d:\d\d: received [\d,.]+, delivered/.test(spoken) || spoken;
  });
  await check("a plot has a text beside it", async () => {
    const summary = await page.evaluate(() => document.querySelector("#plot-lines .summary").textContent);
    return /received: [\d,.]+ now, at most/.test(summary) || summary;
  });
  await page.keyboard.press("Escape");
};

const secrets = async ({ page }) => {
  await check("the settings show, without the key", async () => {
    const content = await page.content();
    return (content.includes("max_connection_age") && !content.includes(KEY)) || "the key is in the page";
  });
};

const rests = async ({ page, seen }) => {
  const turnAway = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await turnAway(true);
  await page.waitForLoadState("networkidle");
  const before = seen.requests.length;
  await pause(2500);
  await check("a hidden page asks nothing", () => seen.requests.length === before || `${seen.requests.length - before} requests`);
  await turnAway(false);
  await check("and goes on when it is seen again", () => until("a request", () => seen.requests.length > before).then(() => true));
};

const outage = async ({ page }) => {
  await upstream.die();
  await check("an outage shows within five seconds", () => says(page, "headline", "The upstream is down"));
  await check("with its reason in plain words", () => says(page, "lead", "The connection is refused"));
  await check("as the system said it", () => says(page, "detail", "Connection refused"));
  await check("with what waits and how long that can go on", () => says(page, "lead", "full in"));
  await check("on the way of the lines, too", () => page.waitForSelector("#pipe-out.cut", { timeout: SOON }).then(() => true));
  for (const view of VIEWS) {
    const away = await open(view);
    await check(`during it, ${view.width} pixels, ${view.scheme}: nothing to scroll sideways`, () => fits(away.page));
    await check(`during it, ${view.width} pixels, ${view.scheme}: axe finds nothing serious`, () => serious(away.page));
    await away.close();
  }
  await upstream.live();
  await check("its end shows", () => says(page, "headline", "All is well"));
};

const goneAndBack = async ({ page }) => {
  await daemon.stop();
  await check("a daemon that is gone is told", () => says(page, "headline", "sidecarbon does not answer"));
  await check("with when it was last heard of", () => says(page, "lead", "What is shown below is from"));
  await check("axe finds nothing serious then", () => serious(page));
  await daemon.start();
  await check("one that is back is found again", () => says(page, "pulse", "Live"));
  clients.push(new Client(daemon.address("tcp"), 200));
  await check("and its numbers move", () => changes(() => text(page, "delivered-total")));
  await check("and all is well", () => says(page, "headline", "All is well"));
};

const calm = async () => {
  const { page, close } = await open({ reducedMotion: "reduce" });
  await check("nothing moves by itself where that is not wanted", async () => {
    await page.waitForSelector(".pipe.flows");
    const names = await page.evaluate(() => [...document.querySelectorAll("*")].map((element) => getComputedStyle(element).animationName));
    return names.every((name) => name === "none") || [...new Set(names)].join(" ");
  });
  await close();
};

// A page of another origin: by a request, in a frame, and by a name of its own
// that resolves to us.
const strangers = async () => {
  const server = http.createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<!doctype html><title>other</title>"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const read = (origin) =>
    page.evaluate((origin) => fetch(`${origin}/api/status`).then((answer) => answer.text(), () => "nothing"), origin);
  await check("a page of another origin reads nothing", async () => {
    const got = await read(daemon.origin);
    return got === "nothing" || got;
  });
  await check("and shows it in no frame", async () => {
    await page.evaluate((origin) => document.body.append(Object.assign(document.createElement("iframe"), { src: origin })), daemon.origin);
    const frame = await until("a frame", () => page.frames()[1]);
    await frame.waitForLoadState();
    const headline = await frame.evaluate(() => document.getElementById("headline")?.textContent ?? "nothing");
    return headline === "nothing" || headline;
  });
  await page.close();
  server.close();

  const rebound = await browse(["--host-resolver-rules=MAP rebound.example 127.0.0.1"]);
  const other = await rebound.newPage();
  const answer = await other.goto(daemon.origin.replace("127.0.0.1", "rebound.example"));
  await check("nor by a name that resolves to it", () => answer.status() === 403 || answer.status());
  await rebound.close();
};

try {
  await daemon.start();
  clients.push(new Client(daemon.address("tcp"), 300), new Client(daemon.unix, 100));
  for (const view of VIEWS) await loads(view);
  const desk = await open();
  await rejects(desk);
  await isPatched(desk);
  await keyboard(desk);
  await secrets(desk);
  await rests(desk);
  await check("nothing on the console so far", () => desk.seen.errors.length === 0 || desk.seen.errors.join("; "));
  await calm();
  await strangers();
  await outage(desk);
  await goneAndBack(desk);
} catch (error) {
  await check("to the end", () => Promise.reject(error));
} finally {
  for (const client of clients) client.stop();
  await browser.close();
  await daemon.end();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
