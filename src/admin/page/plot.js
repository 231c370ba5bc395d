// A plot of the last ten minutes: columns of numbers as lines and areas, with a
// scale that stays calm, and a cursor for mouse, finger and keyboard.

const STEPS = 300;
const MINUTES = 10;
const TOP = 8;
const BOTTOM = 24;

// The least round number that is no less: 1, 2, 2.5 or 5 times a power of ten; of
// bytes, a power of two.
const roundUp = (number, base) => {
  if (base === 2) return 2 ** Math.ceil(Math.log2(number));
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= number);
};

class Plot {
  #section;
  #series;
  #options;
  #svg = drawn("svg", { "aria-hidden": "true" });
  #parts = {};
  #ticks = [];
  #columns = null;
  #secondsAStep = 2;
  #cursor = null;
  #width = 0;
  #top = 0;
  // Called with a step, or null, when the cursor moves.
  moved = () => {};

  // series: [{ key, label }], the first is drawn first. options: height, ticks,
  // base, format, least (of the scale).
  constructor(id, series, options) {
    this.#section = at(id);
    this.#series = series;
    this.#options = options;
    const legend = this.#section.querySelector(".legend");
    this.#parts.when = make("li", { class: "when" });
    legend.append(this.#parts.when);
    for (const one of series) {
      one.value = make("b", {}, "–");
      legend.append(make("li", {}, make("span", { class: `swatch ${one.key}`, "aria-hidden": "true" }), one.label, one.value));
    }
    const { height } = options;
    change(this.#svg, { height, focusable: "false" });
    this.#parts.grid = drawn("g");
    this.#parts.times = drawn("g");
    this.#svg.append(this.#parts.grid, this.#parts.times);
    for (const one of series) {
      one.area = drawn("path", { class: `area ${one.key}` });
      one.stroke = drawn("path", { class: `stroke ${one.key}` });
      if (one.filled) this.#svg.append(one.area);
      this.#svg.append(one.stroke);
    }
    this.#parts.cursor = drawn("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
    this.#svg.append(this.#parts.cursor);
    for (const one of series) {
      one.point = drawn("circle", { class: `point ${one.key}`, r: 4, visibility: "hidden" });
      this.#svg.append(one.point);
    }
    const canvas = this.#section.querySelector(".canvas");
    canvas.append(this.#svg);
    new ResizeObserver(([entry]) => {
      this.#width = Math.round(entry.contentRect.width);
      change(this.#svg, { viewBox: `0 0 ${this.#width} ${height}` });
      this.#draw();
    }).observe(canvas);
    this.#listen(canvas);
  }

  // columns: one array of numbers a series, the last element is the latest. top:
  // a bound of the scale that is shown when it comes near.
  update(columns, secondsAStep, top = Infinity) {
    this.#columns = columns;
    this.#secondsAStep = secondsAStep;
    this.#top = top;
    this.#draw();
    this.#describe();
  }

  // Moves the cursor to a step before the latest, or away.
  point(step) {
    this.#cursor = step;
    this.#drawCursor();
  }

  #draw() {
    if (this.#columns === null || this.#width === 0) return;
    const { base, format, least } = this.#options;
    const height = this.#options.height - BOTTOM;
    const most = Math.max(...this.#series.flatMap(({ key }) => this.#columns[key]), 0);
    const scale = Math.max(most * 1.08, typeof least === "function" ? least(this.#top) : least);
    const isNearTop = scale > this.#top / 2;
    const tick = isNearTop ? this.#top / 2 : roundUp(scale / this.#options.ticks, base);
    const end = isNearTop ? Math.max(this.#top, most) : Math.ceil(scale / tick) * tick;
    this.y = (value) => TOP + (height - TOP) * (1 - value / end);
    this.x = (step) => this.#width - (step / STEPS) * this.#width;

    const values = [];
    for (let value = 0; value <= end * 1.0001; value += tick) values.push(value);
    this.#grid(values, isNearTop, format);
    this.#times();
    for (const { key, area, stroke } of this.#series) {
      const column = this.#columns[key];
      const points = column.map((value, index) => `${this.x(column.length - 1 - index).toFixed(1)} ${this.y(value).toFixed(1)}`);
      // What is mostly 0 and seldom not, such as drops, is drawn when it is not.
      const isDrawn = points.length > 0 && (key !== "dropped" || Math.max(...column) > 0);
      const path = isDrawn ? `M${points.join("L")}` : "";
      change(stroke, { d: path });
      const start = this.x(column.length - 1).toFixed(1);
      change(area, { d: path && `${path}L${this.#width} ${height}L${start} ${height}Z` });
    }
    this.#drawCursor();
  }

  #grid(values, hasLimit, format) {
    const items = values.map((value) => ({ value, y: Math.round(this.y(value)) + 0.5 }));
    list(this.#parts.grid, items, {
      key: ({ value }) => value,
      create: () => {
        const group = drawn("g");
        group.append(drawn("line", { class: "grid", x1: 0 }), drawn("text", { class: "axis", x: 0 }));
        return group;
      },
      patch: (group, { value, y }) => {
        const [line, label] = group.children;
        change(line, { x2: this.#width, y1: y, y2: y });
        change(label, { y: y - 4 });
        say(label, value === 0 ? "" : value === this.#top ? `${format(value)}, its bound` : format(value));
      },
    });
    this.#limit(hasLimit);
  }

  #limit(isShown) {
    this.#parts.limit ??= this.#svg.insertBefore(drawn("line", { class: "limit", x1: 0 }), this.#parts.times);
    const y = isShown ? this.y(this.#top) : 0;
    change(this.#parts.limit, { x2: this.#width, y1: y, y2: y, visibility: isShown ? "visible" : "hidden" });
  }

  #times() {
    const apart = this.#width < 480 ? 5 : 2;
    const items = [];
    for (let minutes = 0; minutes <= MINUTES; minutes += apart) items.push(minutes);
    list(this.#parts.times, items, {
      key: (minutes) => minutes,
      create: () => drawn("text", { class: "axis" }),
      patch: (label, minutes) => {
        const anchor = minutes === 0 ? "end" : minutes === MINUTES ? "start" : "middle";
        change(label, { x: this.#width * (1 - minutes / MINUTES), y: this.#options.height - 5, "text-anchor": anchor });
        say(label, minutes === 0 ? "now" : `${minutes} min ago`);
      },
    });
  }

  // The legend tells the values at the cursor; without one, the latest.
  #drawCursor() {
    if (this.#columns === null || this.y === undefined) return;
    const length = this.#columns[this.#series[0].key].length;
    const step = this.#cursor !== null && this.#cursor < length ? this.#cursor : null;
    const visibility = step === null ? "hidden" : "visible";
    const x = this.x(step ?? 0);
    change(this.#parts.cursor, { x1: x, x2: x, visibility });
    for (const { key, point, value } of this.#series) {
      const number = this.#columns[key][length - 1 - (step ?? 0)] ?? 0;
      change(point, { cx: x, cy: this.y(number), visibility });
      say(value, this.#options.format(number));
    }
    say(this.#parts.when, step === null ? "" : clock(new Date(Date.now() - step * this.#secondsAStep * 1000)));
  }

  // What the plot shows, for those who do not see it.
  #describe() {
    const { format } = this.#options;
    const words = this.#series.map(({ key, label }) => {
      const column = this.#columns[key];
      return `${label}: ${format(column.at(-1) ?? 0)} now, at most ${format(Math.max(...column, 0))}.`;
    });
    say(this.#section.querySelector(".summary"), words.join(" "));
  }

  #listen(canvas) {
    const pointed = ({ clientX }) => {
      const { left, width } = canvas.getBoundingClientRect();
      const step = Math.round((1 - (clientX - left) / width) * STEPS);
      this.moved(Math.min(Math.max(step, 0), STEPS - 1));
    };
    canvas.addEventListener("pointermove", pointed);
    canvas.addEventListener("pointerdown", pointed);
    canvas.addEventListener("pointerleave", () => this.moved(null));
    canvas.addEventListener("blur", () => this.moved(null));
    canvas.addEventListener("keydown", (event) => {
      const length = this.#columns?.[this.#series[0].key].length ?? 0;
      const now = this.#cursor ?? -1;
      const moves = { ArrowLeft: now + 1, ArrowRight: now - 1, Home: length - 1, End: 0, PageUp: now + 15, PageDown: now - 15 };
      if (event.key === "Escape") {
        this.moved(null);
      } else if (event.key in moves && length > 0) {
        event.preventDefault();
        this.moved(Math.min(Math.max(moves[event.key], 0), length - 1));
        const values = this.#series.map(({ label, value }) => `${label} ${value.textContent}`);
        say(this.#section.querySelector(".spoken"), `${this.#parts.when.textContent}: ${values.join(", ")}`);
      }
    });
  }
}
