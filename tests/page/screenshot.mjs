// Takes the pictures of the documentation: docs/images/status.png after an outage
// and the drain that followed it, docs/images/status-dark.png during it. They show
// ten minutes, so they take nearly ten.

import { mkdirSync } from "node:fs";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Client, Daemon, Upstream, browse, until } from "./stage.mjs";

const [, , binary, directory] = process.argv;
const minutes = (number) => pause(number * 60_000);

const upstream = new Upstream(12004);
await upstream.live();
const daemon = new Daemon(binary, upstream, {
  "listen.udp": ["localhost:12003"],
  "listen.tcp": ["localhost:12003"],
  "listen.unix_stream": ["/tmp/sidecarbon.sock"],
  "admin.listen": "localhost:12023",
  "sink.max_lines_per_second": 2000,
  "retry.max": "10s",
  "queue.bytes": "8MiB",
});
await daemon.start();
const web = new Client(daemon.address("tcp"), 900);
const local = new Client("/tmp/sidecarbon.sock", 300);
const browser = await browse();

// From the top of the page to the end of a part.
const take = async (scheme, last, name) => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1000 }, colorScheme: scheme });
  await page.goto(daemon.origin);
  await page.waitForFunction(() => document.getElementById("pulse").textContent.startsWith("Live"));
  // Rates are taken over a few looks.
  await until("a steady rate", () => page.evaluate(() => document.querySelector("#pipe-in.flows") !== null));
  await pause(4000);
  const height = await page.evaluate((last) => document.querySelector(last).getBoundingClientRect().bottom + 40, last);
  await page.screenshot({ path: `${directory}/${name}`, fullPage: true, clip: { x: 0, y: 0, width: 1280, height } });
  await page.close();
};

try {
  mkdirSync(directory, { recursive: true });
  await minutes(4.5);
  web.say("shop.checkout.latency twelve\n");
  await upstream.die();
  await minutes(1);
  local.say("shop.cart.items 3 1700000000000\n");
  await minutes(0.5);
  await take("dark", ".columns", "status-dark.png");
  await upstream.live();
  await minutes(1);
  web.say("shop.orders.open nan\n");
  net.connect(Number(daemon.address("tcp").split(":")[1]), "127.0.0.1", function greet() {
    this.on("error", () => {});
    this.end("GET /metrics HTTP/1.1\r\nHost: web1\r\n\r\n");
  });
  await until("the end of the drain", async () => (await daemon.status()).queue.drain_seconds === 0);
  await minutes(1.2);
  await take("light", ".rejected", "status.png");
} finally {
  web.stop();
  local.stop();
  await browser.close();
  await daemon.end();
}
console.log(`${directory}/status.png and status-dark.png`);
process.exit(0);
