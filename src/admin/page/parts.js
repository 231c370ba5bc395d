// The parts of the page, each from the numbers that it shows.

// The headline: its severity, its title, and one or two sentences.
const headline = ({ status, rates, dropping }) => {
  const { sink, queue, ledger } = status;
  const isDown = sink.up === false;
  const queued = `${lines(ledger.queued)} queued`;
  const reason = sink.last_error ? reasonOf(sink.last_error) : "";
  const next = sink.next_attempt_seconds;
  const again = next === null ? "" : next < 1 ? "The next attempt is running." : `Next attempt in ${lasting(next)}.`;
  const full = queue.horizon_seconds === null ? "" : `, full in ${roughly(queue.horizon_seconds)} at this rate`;
  const outage = `${sink.away_seconds === null ? "" : `Down for ${lasting(sink.away_seconds)}. `}${queued}${full}. ${again}`;
  if (ledger.imbalance !== 0) {
    return ["bad", "The ledger does not balance", `${lines(Math.abs(ledger.imbalance))} are in no account. This is a defect of sidecarbon; please report it.`];
  }
  if (status.draining) {
    return ["warn", "Stopping", `No more lines are received. ${queued}.`];
  }
  if (dropping.lines > 0) {
    return ["bad", "Lines are being dropped", `${whyDropped(dropping.reason, sink)} ${lines(dropping.lines)} dropped in the last ten seconds.`];
  }
  if (sink.state === "unauthorized") {
    return ["bad", "API key rejected", `The upstream rejects the API key; check it, and send SIGHUP. Nothing is lost yet. ${outage}`];
  }
  if (isDown) {
    return ["warn", "The upstream is down", `${reason} ${outage}`];
  }
  if (rates.isKnown && rates.out === 0 && ledger.in_flight > 0 && ledger.queued > 0) {
    return ["warn", "The upstream does not acknowledge", `It is connected, but acknowledges nothing; ${queued}. After sink.write_timeout without progress, a new connection is made.`];
  }
  if (queue.drain_seconds !== 0 && ledger.queued > 0) {
    return ["warn", "Sending the backlog", `The upstream is up again; ${queued}. New lines are sent first.`];
  }
  if (ledger.received + ledger.generated === 0) {
    return ["well", "Ready", "No line has been received yet. Send one to a listener below, for example: sidecarbon send test.line 1"];
  }
  if (sink.up === null) {
    return ["warn", "No line delivered yet", `The upstream has not been reached yet; ${queued}.`];
  }
  const flow = rates.in < 0.05 ? "No lines are coming in" : `${rate(rates.in)} lines per second`;
  const spare = queue.horizon_seconds === null ? "" : ` The queue would hold the lines of an outage of ${roughly(queue.horizon_seconds)}.`;
  return ["well", "All is well", `${flow}; ${lines(ledger.queued + ledger.in_flight)} not yet acknowledged.${spare}`];
};

const STATES = { not_tried: "Not tried yet", connecting: "Connecting", up: "Up", down: "Down", unauthorized: "API key rejected" };

const showState = (view) => {
  const { sink, queue } = view.status;
  const [state, title, lead] = headline(view);
  document.body.dataset.state = state;
  say(at("headline"), title);
  say(at("lead"), lead);
  const said = sink.up === false ? (sink.last_error?.message ?? "") : "";
  say(at("detail"), said);
  show(at("detail"), said !== "");
  document.title = state === "well" ? "sidecarbon" : `${title} · sidecarbon`;
  say(at("version"), `${view.status.version} on ${view.status.hostname}`);
  say(at("pulse"), `Live, running for ${lasting(view.status.uptime_seconds)}`);

  const isDraining = sink.up === true && queue.drain_seconds !== 0 && view.most > 0;
  show(at("drain"), isDraining);
  if (isDraining) {
    const done = 1 - view.waiting / view.most;
    at("drain-bar").value = done;
    const left = queue.drain_seconds === null ? "the backlog is not shrinking" : `about ${roughly(Math.max(queue.drain_seconds, 1))} left`;
    say(at("drain-text"), `${Math.floor(done * 100)} %, ${left}`);
  }
};

const showPipe = (pipe, flow, isCut) => {
  pipe.classList.toggle("flows", flow >= 0.05 && !isCut);
  pipe.classList.toggle("fast", flow >= 1000);
  pipe.classList.toggle("cut", isCut);
};

const showOutlet = (id, number, kind) => {
  say(at(id), count(number));
  at(id).parentElement.classList.toggle(kind, number > 0);
};

const showWay = ({ status, rates }) => {
  const { sink, queue, ledger, listeners } = status;
  list(at("listeners"), listeners, {
    key: ({ name }) => name,
    create: ({ name }) => make("li", {}, make("span", { class: "label", title: name }, name), make("span", { class: "value" })),
    patch: (item, { name, connections, kernel_drops }) => {
      const flow = rates.listeners.get(name) ?? 0;
      const words = [`${rate(flow)}/s`];
      if (connections > 0) words.unshift(`${count(connections)} open`);
      if (kernel_drops > 0) words.unshift(`${count(kernel_drops)} dropped by the kernel`);
      say(item.lastElementChild, words.join(" · "));
      item.classList.toggle("flows", flow > 0);
    },
  });
  showOutlet("rejected-total", sum(ledger.rejected), "some");
  showOutlet("dropped-total", sum(ledger.dropped), "lost");
  say(at("delivered-total"), count(ledger.delivered));
  say(at("rate-in"), rate(rates.in));
  say(at("rate-out"), rate(rates.out));
  showPipe(at("pipe-in"), rates.in, false);
  showPipe(at("pipe-out"), rates.out, sink.up === false);

  const filled = Math.min(queue.bytes / queue.limit_bytes, 1);
  at("fill").style.transform = `scaleY(${filled.toFixed(3)})`;
  at("queue").classList.toggle("high", filled >= 0.7);
  at("queue").classList.toggle("full", filled >= 0.95);
  say(at("waiting"), count(ledger.queued));
  say(at("memory"), `${bytes(queue.bytes)} of ${bytes(queue.limit_bytes)}`);
  const known = STATES[sink.state] ?? sink.state;
  say(at("upstream-state"), known);
  at("out").classList.toggle("down", sink.up === false);
  say(at("url"), sink.url);
};

const showFacts = ({ status }) => {
  const { sink, queue } = status;
  const horizon = queue.horizon_seconds;
  say(at("horizon"), horizon === null ? "–" : roughly(horizon));
  const full = `until ${bytes(queue.limit_bytes)} are full`;
  say(at("horizon-note"), horizon === null ? "Not filling at this rate." : `At this rate, ${full}. Queued lines are compressed.`);

  const ago = sink.last_error && `${lasting(sink.last_error.ago_seconds)} ago`;
  const facts = [
    ["State", sink.up === false ? `${STATES[sink.state]} for ${lasting(sink.away_seconds ?? 0)}` : STATES[sink.state]],
    ["Next attempt", sink.next_attempt_seconds === null ? null : sink.next_attempt_seconds < 1 ? "now" : `in ${lasting(sink.next_attempt_seconds)}`],
    ["Address", sink.address],
    ["Addresses that failed", sink.failed_addresses],
    ["Connections made", count(sink.connects)],
    ["Delivered means", /^(tcp|tls):/.test(sink.url) ? sink.ack_mode : null],
    ["Sent again", count(sink.resent)],
    ["At risk", sink.at_risk > 0 ? count(sink.at_risk) : null],
    ["Uncertain", sink.uncertain > 0 ? count(sink.uncertain) : null],
    ["Its certificate", expiring(sink.certificate_expiry_seconds)],
    ["Our certificate", expiring(sink.client_certificate_expiry_seconds)],
    ["Last error", ago],
    ["", sink.last_error?.message],
  ].filter(([, value]) => value !== null && value !== undefined);
  const pairs = facts.flatMap(([name, value]) => (name === "" ? [{ tag: "dd", key: "message", text: value, class: "long" }] : [
    { tag: "dt", key: `${name}?`, text: name },
    { tag: "dd", key: name, text: value },
  ]));
  list(at("upstream"), pairs, {
    key: ({ key }) => key,
    create: ({ tag, ...pair }) => make(tag, pair.class ? { class: pair.class } : {}),
    patch: (element, { text }) => say(element, text),
  });
};

const showAccounts = (body, accounts) => {
  list(body, accounts, {
    key: ({ name }) => name,
    create: ({ name }) => make("tr", {}, make("th", { scope: "row" }, name), make("td"), make("td", { class: "number" })),
    patch: (row, { number, note = "", kind = "" }) => {
      const [, notes, cell] = row.children;
      say(notes, note);
      say(cell, count(number));
      cell.className = `number ${number === 0 ? "zero" : kind}`;
    },
  });
};

const showLedger = ({ status: { ledger, listeners } }) => {
  const came = listeners.map(({ name, received }) => ({ name, number: received }));
  if (ledger.generated > 0) came.push({ name: "made by sidecarbon", number: ledger.generated });
  if (came.length === 0) came.push({ name: "no listener", number: 0 });
  showAccounts(at("came"), came);
  const stands = [
    { name: "delivered", number: ledger.delivered, note: "the upstream has them" },
    { name: "queued", number: ledger.queued, note: ledger.queued > 0 ? "they wait in memory" : "" },
    { name: "in flight", number: ledger.in_flight, note: ledger.in_flight > 0 ? "not acknowledged yet" : "" },
    { name: "rejected", number: sum(ledger.rejected), note: byReason(ledger.rejected), kind: "warn" },
    { name: "dropped", number: sum(ledger.dropped), note: byReason(ledger.dropped), kind: "bad" },
    { name: "filtered", number: ledger.filtered },
    { name: "aggregated", number: ledger.aggregated },
  ].filter(({ name, number }) => number > 0 || !["filtered", "aggregated"].includes(name));
  showAccounts(at("stands"), stands);
  const total = ledger.received + ledger.generated;
  say(at("came-sum"), count(total));
  say(at("stands-sum"), count(total - ledger.imbalance));
  at("closes").classList.toggle("bad", ledger.imbalance !== 0);
  say(at("closes"), ledger.imbalance === 0 ? "The sum closes" : `${count(ledger.imbalance)} lines are missing`);
};

const showRejected = (rejected, total) => {
  say(at("rejected-note"), total === 0 ? "None since the start" : rejected.length < total ? `A sample; ${count(total)} in all` : "");
  list(at("rejected"), rejected, {
    key: ({ time, excerpt, sender }) => `${time} ${sender} ${excerpt}`,
    create: ({ time, reason, hint, excerpt, listener, sender }) => {
      const date = new Date(time * 1000);
      return make("li", {},
        make("time", { class: "time", datetime: date.toISOString() }, clock(date)),
        make("span", { class: "reason" }, reason.replaceAll("_", " ")),
        make("div", { class: "line-and-hint" }, make("div", { class: "line" }, excerpt), make("div", { class: "hint" }, hint)),
        make("div", { class: "from" }, make("b", {}, sender), listener));
    },
  });
};

const showSettings = ({ settings, warnings }) => {
  const set = settings.filter((setting) => !setting.is_default).length;
  const files = new Set(settings.map(({ origin }) => origin.match(/^(.*\/.*):\d+$/)?.[1]).filter(Boolean));
  const from = files.size > 0 ? `; the file is ${[...files].join(", ")}` : "";
  say(at("settings-note"), `${count(set)} set, the key is never shown${from}`);
  show(at("warnings"), warnings.length > 0);
  list(at("warnings"), warnings, { key: (text) => text, create: (text) => make("li", {}, text) });
  const tables = Map.groupBy ? Map.groupBy(settings, tableOf) : groupedBy(settings, tableOf);
  list(at("settings"), [...tables], {
    key: ([table]) => table,
    create: ([table]) => make("section", {}, make("h3", {}, `[${table}]`), make("dl")),
    patch: (section, [, rows]) => list(section.lastElementChild, rows, {
      // Another value is another row, which settings rarely are.
      key: ({ path, value, origin }) => `${path} ${value} ${origin}`,
      create: ({ path, value, origin, is_default }) => {
        const row = make("div", is_default ? {} : { class: "set" }, make("dt", {}, path.split(".").at(-1)), make("dd", {}, value === '""' || value === "[]" ? "–" : value));
        // Which file it is, the note says.
        if (!is_default) row.append(make("dd", { class: "origin" }, origin.replace(/^.*\//, "")));
        return row;
      },
    }),
  });
};

const tableOf = ({ path }) => path.slice(0, path.lastIndexOf("."));

const groupedBy = (items, keyOf) => {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
};
