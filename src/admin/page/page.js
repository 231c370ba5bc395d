// Asks the daemon how it is, every second while somebody looks, and shows it.

const INTERVAL = 1000;
const PATIENCE = 4000;
// Rates are over so many looks.
const LOOKS = 4;

const plots = {
  lines: new Plot("plot-lines", [
    { key: "received", label: "received" },
    { key: "delivered", label: "delivered", filled: true },
    { key: "dropped", label: "dropped", filled: true },
  ], { height: 232, ticks: 4, base: 10, format: rate, least: 5 }),
  queue: new Plot("plot-queue", [{ key: "bytes", label: "in use", filled: true }], {
    height: 144, ticks: 2, base: 2, format: bytes, least: (limit) => limit / 8,
  }),
};
for (const plot of Object.values(plots)) {
  plot.moved = (step) => Object.values(plots).forEach((other) => other.point(step));
}

const memory = { looks: [], turn: 0, rejected: null, rejectedTotal: 0, most: 0, dropped: [], lastAnswer: null, failures: 0 };

const fetched = async (path) => {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return answer.json();
};

// Differences between the looks; a daemon that has started anew begins anew.
const ratesOf = (status) => {
  const look = { time: performance.now(), status };
  const before = memory.looks.at(-1)?.status;
  if (before && status.ledger.received < before.ledger.received) memory.looks = [];
  memory.looks = [...memory.looks, look].slice(-LOOKS);
  const first = memory.looks[0];
  const seconds = (look.time - first.time) / 1000;
  const over = (now, then) => (seconds > 0 ? Math.max(now - then, 0) / seconds : 0);
  const receivedThen = new Map(first.status.listeners.map(({ name, received }) => [name, received]));
  return {
    isKnown: memory.looks.length === LOOKS,
    in: over(status.ledger.received, first.status.ledger.received),
    out: over(status.ledger.delivered, first.status.ledger.delivered),
    listeners: new Map(status.listeners.map(({ name, received }) => [name, over(received, receivedThen.get(name) ?? 0)])),
  };
};

// How far a backlog has shrunk since it was largest.
const backlogOf = ({ ledger, queue, sink }) => {
  const waiting = ledger.queued + ledger.in_flight;
  const isBacklog = sink.up === false || queue.drain_seconds !== 0;
  memory.most = isBacklog ? Math.max(memory.most, waiting) : 0;
  return { waiting, most: memory.most };
};

// Lines dropped within the last ten seconds, and the reason of most of them.
const droppingOf = ({ ledger: { dropped } }) => {
  const now = performance.now();
  const isRecent = (look) => now - look.now < 10_000 && sum(look.dropped) <= sum(dropped);
  memory.dropped = [...memory.dropped, { now, dropped }].filter(isRecent);
  const [{ dropped: before }] = memory.dropped;
  const grown = Object.entries(dropped).map(([reason, number]) => ({ reason, lines: number - (before[reason] ?? 0) }));
  const [{ reason }] = grown.sort((one, other) => other.lines - one.lines);
  return { reason, lines: sum(dropped) - sum(before) };
};

const look = async () => {
  const wantsHistory = memory.turn % 2 === 0;
  const wantsSettings = memory.turn % 10 === 0;
  const [status, history, settings] = await Promise.all([
    fetched("/api/status"),
    wantsHistory ? fetched("/api/history") : null,
    wantsSettings ? fetched("/api/settings") : null,
  ]);
  const rejectedTotal = sum(status.ledger.rejected);
  if (memory.rejected === null || rejectedTotal !== memory.rejectedTotal) {
    memory.rejected = await fetched("/api/rejected");
    memory.rejectedTotal = rejectedTotal;
  }
  memory.turn += 1;
  const view = { status, rates: ratesOf(status), dropping: droppingOf(status), ...backlogOf(status) };
  showState(view);
  showWay(view);
  showFacts(view);
  showLedger(view);
  showRejected(memory.rejected, rejectedTotal);
  if (history) showHistory(history, status.queue.limit_bytes);
  if (settings) showSettings(settings);
};

const showHistory = ({ step_seconds, received, delivered, dropped, queue_bytes }, limit) => {
  const aSecond = (column) => column.map((number) => number / step_seconds);
  plots.lines.update({ received: aSecond(received), delivered: aSecond(delivered), dropped: aSecond(dropped) }, step_seconds);
  plots.queue.update({ bytes: queue_bytes }, step_seconds, limit);
};

const showGone = () => {
  document.body.dataset.state = "bad";
  document.body.classList.add("gone");
  document.title = "No answer · sidecarbon";
  say(at("headline"), "sidecarbon does not answer");
  const shown = memory.lastAnswer === null ? "" : ` What is shown below is from ${clock(memory.lastAnswer)}.`;
  say(at("lead"), `It has stopped, or cannot be reached from here.${shown} This page tries again every second.`);
  say(at("pulse"), "No answer");
  show(at("detail"), false);
  show(at("drain"), false);
};

let timer = null;
let isLooking = false;

const turn = async () => {
  if (isLooking || document.hidden) return;
  isLooking = true;
  try {
    await look();
    if (memory.failures > 1) memory.turn = 0;
    memory.failures = 0;
    memory.lastAnswer = new Date();
    document.body.classList.remove("gone");
  } catch (error) {
    memory.failures += 1;
    // What was counted before may have begun anew.
    Object.assign(memory, { rejected: null, turn: 0 });
    // A connection that was just closed is no news.
    if (memory.failures > 1) showGone();
    if (!(error instanceof TypeError || error instanceof DOMException)) say(at("pulse"), error.message);
  } finally {
    isLooking = false;
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(turn, memory.failures === 1 ? INTERVAL / 4 : INTERVAL);
};

// Nobody looks, nobody asks.
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) turn();
});

turn();
