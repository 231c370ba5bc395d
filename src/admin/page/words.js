// Numbers, times and reasons as people say them. A number and its unit stay on
// one line.

const GAP = "\u00a0";

const grouped = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

// 1234567 as 1,234,567.
const count = (number) => grouped.format(number);

const lines = (number) => `${count(number)} ${number === 1 ? "line" : "lines"}`;

// Small rates with one decimal, so that a line every few seconds shows.
const rate = (number) => (number < 9.95 ? tenths.format(number) : count(Math.round(number)));

const bytes = (number) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (number >= 1024 && power < units.length - 1) {
    number /= 1024;
    power += 1;
  }
  const digits = power > 0 && number < 10 && !Number.isInteger(number) ? 1 : 0;
  return `${number.toFixed(digits)}${GAP}${units[power]}`;
};

// Two units at most: 42 s, 3 min 20 s, 5 h 10 min, 3 days.
const lasting = (seconds) => {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole}${GAP}s`;
  const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(whole / unit));
  const pair = (large, one, small, other) => [large, one, ...(small > 0 ? [small, other] : [])].join(GAP);
  if (minutes < 10) return pair(minutes, "min", whole % 60, "s");
  if (hours < 1) return `${minutes}${GAP}min`;
  if (hours < 10) return pair(hours, "h", minutes % 60, "min");
  if (hours < 48) return `${hours}${GAP}h`;
  return days < 1000 ? `${days}${GAP}days` : "years";
};

// The same for what is an estimate.
const roughly = (seconds) => (seconds >= 600 && seconds < 3600 ? `${Math.round(seconds / 300) * 5}${GAP}min` : lasting(seconds));

// How long a certificate is valid; nothing where there is none.
const expiring = (seconds) => (seconds == null ? null : seconds < 0 ? "has expired" : `expires in ${lasting(seconds)}`);

const clock = (date) => date.toLocaleTimeString("en-GB");

// What went wrong on the way to the upstream, by the kind that is counted.
const REASONS = {
  dns: "Its host name cannot be resolved.",
  connect: "No connection can be made.",
  tls: "The TLS handshake fails.",
  certificate: "Its certificate is not valid, so nothing is sent.",
  ended: "It has closed the connection.",
  broken: "The connection broke.",
  timeout: "It does not answer in time.",
  unauthorized: "It rejects the API key.",
  throttled: "It limits our rate (429).",
  status: "It answers with an error.",
  proxy: "The proxy refuses the connection.",
  io: "The operating system reports an error.",
};

const reasonOf = ({ kind, message }) => {
  if (kind === "connect" && /refused/i.test(message)) return "The connection is refused: nothing listens there.";
  if (kind === "connect" && /unreachable/i.test(message)) return "Its address cannot be reached.";
  return REASONS[kind] ?? "Something went wrong.";
};

// Why lines are dropped.
const LOSSES = {
  refused: "The upstream rejects some of them.",
  uncertain: "The answer to their request was lost, and sink.uncertain is \"drop\".",
  too_large: "Some are larger than a datagram or a request can be.",
  shutdown: "They came after the shutdown had begun.",
  corrupt: "They were damaged in memory; test the memory of this machine.",
};

const whyDropped = (reason, sink) => {
  if (reason !== "queue_full") return LOSSES[reason] ?? "";
  if (sink.up !== false) return "The queue is full, because lines come faster than the upstream accepts them, and the oldest are dropped; or StatsD samples have more names than statsd.bytes can hold.";
  return `The queue is full, and the upstream is down. ${sink.last_error ? reasonOf(sink.last_error) : ""} The oldest lines are dropped.`;
};

const sum = (accounts) => Object.values(accounts).reduce((total, number) => total + number, 0);

// "value 10, name 2": the reasons that occurred, most frequent first.
const byReason = (accounts) =>
  Object.entries(accounts)
    .filter(([, number]) => number > 0)
    .sort(([, one], [, other]) => other - one)
    .map(([reason, number]) => `${reason.replaceAll("_", " ")} ${count(number)}`)
    .join(", ");
