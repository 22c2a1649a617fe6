/* The explorer: any published variable, drawn again from labelled arrays.

A variable is an array over axes. One axis runs across, one makes the lines, every other is
set to one place by a control of its own. */
"use strict";

const explorer = {
  ACROSS: ["step", "evaluation", "stop", "epoch", "record", "time", "until", "at", "learning_rate"],
  LINES: ["optimizer", "rule", "path", "direction", "start"],
  MOST: 12, // lines shown unless more are asked for

  start(records) {
    this.records = records;
    this.form = $("#explorer");
    this.fields = this.form.elements;
    for (const { axes } of Object.values(records))
      for (const axis of Object.values(axes)) if (axis.numeric) axis.values = axis.values.map(number);
    const names = Object.keys(records).sort();
    if (!names.length) {
      $("#explore").hidden = true;
      return;
    }
    this.fill(this.fields.experiment, names.map((name) => [name, name]));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => this.changed(event.target));
    $("#shown").addEventListener("input", () => this.draw(true));
    $("#reading input").addEventListener("input", (event) => {
      this.choices.at = this.stops[event.target.value];
      this.draw(true);
    });
    address.sections.explore = (parameters) => this.restore(parameters);
    theme.listeners.push(() => this.draw(false));
    this.restore(new URLSearchParams({ experiment: names.includes("alignment") ? "alignment" : names[0] }));
    new ResizeObserver(() => {
      if ($("#chart").clientWidth !== this.width) this.draw(false);
    }).observe($("#chart"));
  },

  fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
    if (options.some(([value]) => value === chosen)) select.value = chosen;
    select.disabled = options.length < 2;
  },

  get source() {
    return this.records[this.fields.experiment.value];
  },
  get variable() {
    return this.source.variables.find((v) => v.name === this.fields.measure.value);
  },

  axis(name) {
    return this.source.axes[name];
  },

  place(name, i) {
    const axis = this.axis(name);
    return axis.numeric ? axis.values[i] : axis.labels[i];
  },

  /** Everything as an address says; what it leaves out by default. */
  restore(parameters) {
    const experiment = parameters.get("experiment");
    if (experiment in this.records) this.fields.experiment.value = experiment;
    this.choices = Object.fromEntries(parameters);
    this.wanted = parameters.has("show") ? new Set(parameters.getAll("show")) : null;
    this.measures();
  },

  changed(field) {
    this.choices[field.name] = field.type === "checkbox" ? String(+field.checked) : field.value;
    if (field.name === "experiment") this.choices = {};
    if (["experiment", "lines"].includes(field.name)) this.wanted = null;
    if (["measure", "x"].includes(field.name)) for (const name of ["logx", "logy", "at"]) delete this.choices[name];
    if (field.name === "experiment") this.measures();
    else if (["measure", "x", "lines"].includes(field.name)) this.axes();
    else if (["logx", "logy"].includes(field.name)) this.draw(false);
    else this.filters();
    this.write();
  },

  measures() {
    const variables = this.source.variables;
    const labels = variables.map((v) => v.label + (v.name.endsWith("_by_leaf") ? " by leaf" : ""));
    const twice = (label) => labels.filter((other) => other === label).length > 1;
    const options = variables.map((v, i) => [v.name, twice(labels[i]) ? `${labels[i]} (${v.name})` : labels[i]]);
    const has = (v, names) => v.axes.some((name) => names.includes(name));
    const lined = variables.filter((v) => has(v, this.LINES));
    const running = lined.filter((v) => has(v, this.ACROSS));
    const angle = (v) => v.name === "angle";
    const numeric = (v) => v.axes.some((name) => this.axis(name).numeric);
    const first = running.find(angle) ?? running[0] ?? lined.find(angle) ?? lined.find(numeric) ?? variables[0];
    this.fill(this.fields.measure, options, this.choices.measure ?? first.name);
    if (!variables.some((v) => v.name === this.choices.measure)) this.fields.measure.value = first.name;
    const name = this.fields.experiment.value;
    $("#explore-about").replaceChildren(element("a", { href: `#experiment-${name}` }, this.source.title));
    $("#measures").hidden = !this.source.about;
    $("#measures .scroll").textContent = this.source.about;
    this.axes();
  },

  /** Which axis runs across, and which makes lines. */
  axes() {
    const names = this.variable.axes.filter((name) => this.axis(name).values.length > 1);
    const numeric = names.filter((name) => this.axis(name).numeric);
    const lines = this.LINES.find((name) => names.includes(name));
    const across =
      this.ACROSS.find((name) => numeric.includes(name)) ??
      d3.greatest(numeric.filter((name) => name !== lines), (name) => this.axis(name).values.length) ??
      lines ?? names.find((name) => name !== "problem") ?? names[0] ?? this.variable.axes[0];
    const title = (name) => [name, this.axis(name).label];
    this.fill(this.fields.x, (names.length ? names : [across]).map(title), this.choices.x);
    if (!names.includes(this.choices.x)) this.fields.x.value = across;
    const x = this.fields.x.value;
    const others = names.filter((name) => name !== x);
    const usual = lines && lines !== x ? lines : (others.find((name) => name !== "problem") ?? "");
    this.fill(this.fields.lines, [...others.map(title), ["", "one line"]], this.choices.lines);
    if (![...others, ""].includes(this.choices.lines)) this.fields.lines.value = usual;
    this.filters();
  },

  /** A control for every axis that neither runs across nor makes lines. */
  filters() {
    const { x, lines } = this.fields;
    const rest = this.variable.axes.filter((name) => name !== x.value && name !== lines.value);
    const focused = $("#filters").contains(document.activeElement) && document.activeElement.name;
    const controls = [];
    this.fixed = {};
    for (const name of rest) {
      const { values, numeric, label } = this.axis(name);
      const some = d3.range(values.length).filter((i) => this.count({ ...this.fixed, [name]: i }));
      const options = (some.length ? some : [0]).map((i) => [String(values[i]), shown(this.place(name, i))]);
      const select = element("select", { name });
      this.fill(select, options, this.choices[name]);
      const chosen = options.some(([value]) => value === this.choices[name]);
      if (!chosen && numeric) select.selectedIndex = d3.greatestIndex(some, (i) => this.count({ ...this.fixed, [name]: i }) + i / 1e6) ?? 0;
      this.fixed[name] = values.findIndex((value) => String(value) === select.value);
      if (options.length > 1 || name === "problem") controls.push(element("label", {}, capital(label) + " ", select));
    }
    $("#filters").replaceChildren(...controls);
    if (focused) $(`#filters [name="${CSS.escape(focused)}"]`)?.focus();
    this.chips();
  },

  /** How many values there are to draw. */
  count(fixed) {
    return d3.count(this.cells(fixed), (cell) => (Number.isFinite(cell.median) ? 1 : NaN));
  },

  /** The values that agree with some fixed places, each with its place on every axis. */
  cells(fixed) {
    const { axes, median, low, high } = this.variable;
    const cells = [];
    const visit = (depth, parts, places) => {
      if (depth === axes.length) {
        const [middle, from, to] = parts.map(number);
        cells.push({ median: middle, low: from, high: to, places });
        return;
      }
      const name = axes[depth];
      const range = name in fixed ? [fixed[name]] : d3.range(this.axis(name).values.length);
      for (const i of range) visit(depth + 1, parts.map((part) => part[i]), { ...places, [name]: i });
    };
    visit(0, low ? [median, low, high] : [median], {});
    return cells;
  },

  /** Which lines are shown: a legend that is also the control. */
  chips() {
    const lines = this.fields.lines.value;
    this.points = this.cells(this.fixed).filter((cell) => !Number.isNaN(cell.median));
    const present = lines ? d3.sort(new Set(this.points.map((cell) => cell.places[lines]))) : [];
    $("#shown").hidden = present.length < 2;
    const chips = present.map((i, order) => {
      const box = element("input", { type: "checkbox", value: String(this.axis(lines).values[i]) });
      box.checked = this.wanted ? this.wanted.has(box.value) : order < this.MOST;
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      return element("label", { class: "chip", "data-place": i }, box, swatch, shown(this.place(lines, i)));
    });
    const buttons = ["all", "none"].map((word) => {
      const button = element("button", { type: "button", class: "quiet" }, word);
      button.addEventListener("click", () => {
        for (const box of $$("#shown input")) box.checked = word === "all";
        this.draw(true);
      });
      return button;
    });
    $("#shown .chips").replaceChildren(...chips, ...buttons);
    this.draw(false);
  },

  colour(name, i) {
    return inked(this.axis(name).colours?.[i] ?? d3.schemeObservable10[i % 10]);
  },

  /** The chosen lines, each with its points. */
  series() {
    const [lines, x] = [this.fields.lines.value, this.fields.x.value];
    const axis = this.axis(x);
    const point = (cell) => ({ ...cell, x: this.place(x, cell.places[x]) });
    if (!lines) {
      const own = (cell) => (axis.colours?.[cell.places[x]] ? this.colour(x, cell.places[x]) : inked("#2a5db0"));
      const name = this.variable.label;
      return [{ name, points: this.points.map((cell) => ({ ...point(cell), name, colour: own(cell), dash: null })) }];
    }
    return $$("#shown .chip").flatMap((chip, order) => {
      const i = Number(chip.dataset.place);
      const [name, colour, dash] = [chip.textContent, this.colour(lines, i), drawing.DASHES[order % 4]];
      $(".swatch", chip).style.setProperty("--colour", colour);
      if (!$("input", chip).checked) return [];
      const points = this.points.filter((cell) => cell.places[lines] === i);
      return [{ name, points: points.map((cell) => ({ ...point(cell), name, colour, dash })) }];
    });
  },

  draw(byHand) {
    if (!this.points) return;
    const axis = this.axis(this.fields.x.value);
    const { label: measure, unit } = this.variable;
    const series = this.series();
    const every = series.flatMap((one) => one.points);
    const [logx, logy] = this.scales(every, axis.numeric);
    const possible = (p) => Number.isFinite(p.median) && (!logy || p.median > 0) && p.x !== Infinity && (!logx || p.x > 0);
    const drawn = every.filter(possible);
    reading.describe(this, series, every.length - drawn.length);
    reading.table(axis.label, series);
    this.stops = axis.numeric ? d3.sort(new Set(every.map((p) => p.x))) : [];
    const at = reading.at(this, axis.label, series);
    this.width = $("#chart").clientWidth;
    const look = {
      ...{ width: Math.max(280, this.width), x: axis.label, logx, logy, at, order: axis.labels },
      label: capital(measure) + (unit ? ` (${unit})` : ""),
    };
    const gaps = every.filter((p) => !possible(p) && (logx ? p.x > 0 : true) && p.x !== Infinity);
    const whole = d3.sort([...drawn, ...gaps.map((p) => ({ ...p, median: NaN }))], (p) => p.x);
    const chart = axis.numeric ? drawing.curves(whole, look) : drawing.dots(drawn, look);
    chart.setAttribute("aria-hidden", "true"); // its frame is the image, the table its text
    $("#chart").replaceChildren(chart);
    if (byHand) this.write();
  },

  /** Whether the axes are logarithmic: as chosen, or as the values suggest. */
  scales(points, numeric) {
    const counted = this.ACROSS.includes(this.fields.x.value) && points.some((p) => p.x === 0);
    const spread = (values) => {
      const finite = values.filter(Number.isFinite);
      return finite.length && d3.min(finite) > 0 ? d3.max(finite) / d3.min(finite) : 0;
    };
    const x = numeric ? points.map((p) => p.x) : [];
    const y = points.map((p) => p.median);
    const possible = { logx: x.some((v) => v > 0), logy: y.some((v) => v > 0) };
    const usual = { logx: !counted && spread(x.filter((v) => v !== 0)) > 300, logy: this.variable.log || (!this.variable.unit && spread(y) > 300) };
    return ["logx", "logy"].map((name) => {
      const box = this.fields[name];
      box.disabled = !possible[name];
      box.checked = possible[name] && (name in this.choices ? this.choices[name] === "1" : usual[name]);
      return box.checked;
    });
  },

  write() {
    const parameters = new URLSearchParams();
    for (const name of ["experiment", "measure", "x", "lines"]) parameters.set(name, this.fields[name].value);
    for (const select of $$("#filters select")) parameters.set(select.name, select.value);
    for (const name of ["logx", "logy", "at"]) if (name in this.choices) parameters.set(name, this.choices[name]);
    const boxes = $$("#shown input");
    this.wanted = null;
    if (!boxes.every((box, order) => box.checked === order < this.MOST)) {
      this.wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      for (const value of this.wanted.size ? this.wanted : [""]) parameters.append("show", value);
    }
    address.write("explore", parameters);
  },
};
