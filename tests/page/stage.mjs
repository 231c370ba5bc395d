// What the page is looked at with: a daemon, its clients, and an upstream that
// can die and come back at the same address.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

export const KEY = "6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60";
const PATIENCE = 20_000;

// Waits until something holds.
export const until = async (what, holds) => {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const result = await holds();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await pause(50);
  }
};

// Reads lines and forgets them.
export class Upstream {
  #server = null;
  #clients = new Set();
  #port;

  constructor(port = 0) {
    this.#port = port;
  }

  async live() {
    this.#server = net.createServer((client) => {
      this.#clients.add(client);
      client.on("close", () => this.#clients.delete(client));
      client.on("error", () => {});
      client.resume();
    });
    await new Promise((done) => this.#server.listen(this.#port, "127.0.0.1", done));
    this.#port = this.#server.address().port;
  }

  async die() {
    const closed = new Promise((done) => this.#server.close(done));
    for (const client of this.#clients) client.resetAndDestroy();
    await closed;
  }

  get url() {
    return `tcp://127.0.0.1:${this.#port}`;
  }
}

// A daemon with a configuration of its own. Started again, it has the same
// addresses.
export class Daemon {
  #binary;
  #directory = mkdtempSync(join(tmpdir(), "sidecarbon-page-"));
  #process = null;
  #settings;
  log = "";

  constructor(binary, upstream, settings = {}) {
    this.#binary = binary;
    const key = join(this.#directory, "api-key");
    writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
    this.#settings = {
      "sink.url": upstream.url,
      "sink.api_key_file": key,
      "listen.udp": ["127.0.0.1:0"],
      "listen.tcp": ["127.0.0.1:0"],
      "listen.unix_stream": [this.unix],
      "retry.first": "100ms",
      "retry.max": "2s",
      "admin.listen": "127.0.0.1:0",
      ...settings,
    };
  }

  get unix() {
    return join(this.#directory, "lines.sock");
  }

  async start() {
    const file = join(this.#directory, "sidecarbon.toml");
    const toml = Object.entries(this.#settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`);
    writeFileSync(file, toml.join(""), { mode: 0o600 });
    this.log = "";
    this.#process = spawn(this.#binary, ["--config", file], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH },
    });
    this.#process.stderr.on("data", (data) => (this.log += data));
    await until("the daemon", () => this.log.includes(" started "));
    this.#settings["admin.listen"] = this.address("admin");
    this.#settings["listen.udp"] = [this.address("udp")];
    this.#settings["listen.tcp"] = [this.address("tcp")];
  }

  address(kind) {
    const line = this.log.split("\n").find((line) => line.includes(" listening ") && line.includes(`listener=${kind}:`));
    return line.match(/ address=(\S+)/)[1];
  }

  get origin() {
    return `http://${this.address("admin")}`;
  }

  async stop(signal = "SIGTERM") {
    const ended = new Promise((done) => this.#process.once("exit", done));
    this.#process.kill(signal);
    await ended;
    this.#process = null;
  }

  async end() {
    if (this.#process) await this.stop("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async status() {
    return (await fetch(`${this.origin}/api/status`)).json();
  }
}

// Sends lines, a batch every tenth of a second, until it is stopped. The rate
// moves a little, as real ones do; what a busy machine delays is made up for.
export class Client {
  #socket;
  #timer;
  #number = 0;

  constructor(address, perSecond) {
    const [host, port] = address.split(":");
    this.#socket = address.startsWith("/") ? net.connect(address) : net.connect(Number(port), host);
    this.#socket.on("error", () => {});
    this.rate = perSecond;
    this.sent = performance.now();
    this.#timer = setInterval(() => this.#send(), 100);
  }

  #send() {
    const now = performance.now();
    const waves = [[61, 0.09], [23, 0.05], [7.3, 0.03]].map(([seconds, height]) => height * Math.sin(now / 1000 / seconds * 6.28));
    const wave = waves.reduce((sum, height) => sum + height, 1 + 0.2 * (Math.random() - 0.5));
    const number = Math.round((this.rate * wave * (now - this.sent)) / 1000);
    this.sent = now;
    let text = "";
    for (let line = 0; line < number; line += 1) {
      this.#number += 1;
      text += `shop.web${this.#number % 40}.requests.${this.#number % 7}.count ${this.#number % 1000}\n`;
    }
    this.#socket.write(text);
  }

  say(text) {
    this.#socket.write(text);
  }

  stop() {
    clearInterval(this.#timer);
    this.#socket.end();
  }
}

export const browse = (more = []) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...more,
    ],
  });
