/* The explorer: any published variable, drawn again from labelled arrays.

A variable is an array over axes. One axis runs across, one makes the lines, every other is
set to one place by a control of its own. Observable Plot draws. */
"use strict";

const explorer = {
  ACROSS: ["step", "evaluation", "stop", "epoch", "record", "time", "until", "at", "learning_rate"],
  LINES: ["optimizer", "rule", "path", "direction", "start"],
  DASHES: [null, "6 2", "1.5 2", "6 2 1.5 2"],
  MOST: 12, // lines shown unless more are asked for

  start(records) {
    this.records = records;
    this.form = $("#explorer");
    this.fields = this.form.elements;
    this.choices = {};
    const names = Object.keys(records);
    if (!names.length) {
      $("#explore").hidden = true;
      return;
    }
    this.fill(this.fields.experiment, names.sort().map((name) => [name, name]));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", (event) => this.changed(event.target));
    $("#shown").addEventListener("input", () => this.draw(true));
    address.sections.explore = (parameters) => this.restore(parameters);
    theme.listeners.push(() => this.draw(false));
    new ResizeObserver(() => this.draw(false)).observe($("#chart"));
    this.restore(new URLSearchParams({ experiment: names.includes("alignment") ? "alignment" : names[0] }));
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
    if (field.name === "experiment") {
      this.choices = {};
      this.wanted = null;
    }
    if (field.name === "lines") this.wanted = null;
    if (["measure", "x"].includes(field.name)) {
      delete this.choices.logx;
      delete this.choices.logy;
    }
    if (field.name === "experiment") this.measures();
    else if (field.name === "measure") this.axes();
    else if (["x", "lines"].includes(field.name)) this.axes();
    else if (["logx", "logy"].includes(field.name)) this.draw(true);
    else this.filters();
    this.write();
  },

  measures() {
    const variables = this.source.variables;
    const labels = variables.map((v) => v.label + (v.name.endsWith("_by_leaf") ? " by leaf" : ""));
    const twice = (label) => labels.filter((other) => other === label).length > 1;
    const options = variables.map((v, i) => [v.name, twice(labels[i]) ? `${labels[i]} (${v.name})` : labels[i]]);
    const first = variables.find((v) => v.name === "angle") ?? variables[0];
    this.fill(this.fields.measure, options, this.choices.measure ?? first.name);
    if (!this.variable) this.fields.measure.value = first.name;
    this.axes();
  },

  axis(name) {
    return this.source.axes[name];
  },

  place(name, i) {
    const axis = this.axis(name);
    return axis.numeric ? axis.values[i] : axis.labels[i];
  },

  /** Which axis runs across, and which makes lines. */
  axes() {
    const names = this.variable.axes.filter((name) => this.axis(name).values.length > 1);
    const numeric = names.filter((name) => this.axis(name).numeric);
    const lines = this.LINES.find((name) => names.includes(name));
    const across =
      this.ACROSS.find((name) => numeric.includes(name)) ??
      d3.greatest(numeric.filter((name) => name !== lines), (name) => this.axis(name).values.length) ??
      names.find((name) => name !== "problem") ?? names[0] ?? this.variable.axes[0];
    const title = (name) => [name, this.axis(name).label];
    this.fill(this.fields.x, (names.length ? names : [across]).map(title), this.choices.x ?? across);
    const x = this.fields.x.value;
    const others = names.filter((name) => name !== x);
    const options = [...others.map(title), ["", "one line"]];
    const usual = lines && lines !== x ? lines : (others.find((name) => name !== "problem") ?? others[0] ?? "");
    this.fill(this.fields.lines, options, this.choices.lines ?? usual);
    if (!options.some(([value]) => value === this.fields.lines.value)) this.fields.lines.value = usual;
    this.filters();
  },

  /** A control for every axis that neither runs across nor makes lines. */
  filters() {
    const { x, lines } = this.fields;
    const rest = this.variable.axes.filter((name) => name !== x.value && name !== lines.value);
    const fixed = {};
    const controls = [];
    for (const name of rest) {
      const places = d3.range(this.axis(name).values.length);
      const some = places.filter((i) => this.has({ ...fixed, [name]: i }));
      const options = (some.length ? some : places.slice(0, 1)).map((i) => [
        String(this.axis(name).values[i]),
        typeof this.place(name, i) === "number" ? short(this.place(name, i)) : this.place(name, i),
      ]);
      const select = element("select", { name });
      const wanted = this.choices[name];
      this.fill(select, options, wanted);
      if (wanted === undefined && this.axis(name).numeric) select.selectedIndex = options.length - 1;
      fixed[name] = this.axis(name).values.findIndex((value) => String(value) === select.value);
      if (options.length > 1 || name === "problem")
        controls.push(element("label", {}, this.axis(name).label + " ", select));
    }
    const focused = document.activeElement?.name;
    const inside = $("#filters").contains(document.activeElement);
    $("#filters").replaceChildren(...controls);
    if (inside) $(`#filters [name="${CSS.escape(focused)}"]`)?.focus();
    this.fixed = fixed;
    this.chips();
  },

  /** The positions in the flat order that agree with some fixed places. */
  has(fixed) {
    return this.cells(fixed).some((cell) => Number.isFinite(cell.median));
  },

  cells(fixed) {
    const { axes } = this.variable;
    const cells = [];
    const number = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : (value ?? NaN));
    const visit = (depth, parts, places) => {
      if (depth === axes.length) {
        const [median, low, high] = parts.map(number);
        cells.push({ median, low, high, places });
        return;
      }
      const name = axes[depth];
      const range = name in fixed ? [fixed[name]] : d3.range(this.axis(name).values.length);
      for (const i of range) {
        const inner = parts.map((part) => (part === undefined ? undefined : part[i]));
        visit(depth + 1, inner, { ...places, [name]: i });
      }
    };
    const v = this.variable;
    visit(0, v.low ? [v.median, v.low, v.high] : [v.median], {});
    return cells;
  },

  /** Which lines are shown: a legend that is also the control. */
  chips() {
    const lines = this.fields.lines.value;
    this.points = this.cells(this.fixed).filter((cell) => !Number.isNaN(cell.median));
    const present = lines ? [...new Set(this.points.map((cell) => cell.places[lines]))].sort(d3.ascending) : [];
    $("#shown").hidden = present.length < 2;
    const chips = present.map((i, order) => {
      const value = String(this.axis(lines).values[i]);
      const box = element("input", { type: "checkbox", value });
      box.checked = this.wanted ? this.wanted.has(value) : order < this.MOST;
      const text = this.place(lines, i);
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      return element("label", { class: "chip", "data-place": i }, box, swatch, typeof text === "number" ? short(text) : text);
    });
    const all = element("button", { type: "button", class: "quiet" }, "all");
    const none = element("button", { type: "button", class: "quiet" }, "none");
    for (const [button, checked] of [[all, true], [none, false]])
      button.addEventListener("click", () => {
        for (const box of $$("#shown input")) box.checked = checked;
        this.draw(true);
      });
    $("#shown .chips").replaceChildren(...chips, all, none);
    this.draw(false);
  },

  colour(lines, i) {
    const own = this.axis(lines).colours?.[i];
    return inked(own ?? d3.schemeObservable10[i % 10]);
  },

  series() {
    const lines = this.fields.lines.value;
    if (!lines) return [{ name: this.variable.label, colour: inked("#2a5db0"), dash: null, points: this.points }];
    const boxes = $$("#shown .chip");
    return boxes.flatMap((chip, order) => {
      const i = Number(chip.dataset.place);
      const colour = this.colour(lines, i);
      $(".swatch", chip).style.setProperty("--colour", colour);
      if (!$("input", chip).checked) return [];
      const name = chip.textContent;
      const points = this.points.filter((cell) => cell.places[lines] === i);
      return [{ name, colour, dash: this.DASHES[order % 4], points }];
    });
  },

  draw(byHand) {
    if (!this.points) return;
    const x = this.fields.x.value;
    const axis = this.axis(x);
    const series = this.series();
    const every = series.flatMap((one) => one.points.map((cell) => ({ ...cell, x: axis.numeric ? axis.values[cell.places[x]] : axis.labels[cell.places[x]], name: one.name, colour: one.colour })));
    const [logx, logy] = this.scales(every, axis.numeric);
    const drawn = every.filter((p) => Number.isFinite(p.median) && (!logy || p.median > 0) && (!logx || p.x > 0));
    this.describe(series, every.length - drawn.length);
    this.table(series, x, every);
    const width = Math.max(280, $("#chart").clientWidth);
    const label = this.variable.label + (this.variable.unit ? ` (${this.variable.unit})` : "");
    const groups = d3.groups(drawn, (p) => p.name);
    const dash = Object.fromEntries(series.map((one) => [one.name, one.dash]));
    const common = {
      width,
      height: Math.round(Math.min(460, Math.max(300, width * 0.5))),
      style: { background: "transparent", color: "inherit", fontSize: "12px", overflow: "visible" },
    };
    const chart = axis.numeric
      ? this.curves(common, groups, dash, drawn, { label, x: axis.label, logx, logy })
      : this.dots(common, drawn, { label, x: axis.label, logy, order: axis.labels });
    chart.setAttribute("aria-hidden", "true"); // its frame is the image, the table its text
    $("#chart").replaceChildren(chart);
    if (byHand) this.write();
  },

  /** Whether the axes are logarithmic: as chosen, or as the values suggest. */
  scales(points, numeric) {
    const spread = (values) => {
      const finite = values.filter(Number.isFinite);
      return finite.length && d3.min(finite) > 0 ? d3.max(finite) / d3.min(finite) : 0;
    };
    const x = numeric ? points.map((p) => p.x) : [];
    const possible = { logx: numeric && d3.some(x, (v) => v > 0), logy: d3.some(points, (p) => p.median > 0) };
    const usual = {
      logx: spread(x) > 300,
      logy: this.variable.log || spread(points.map((p) => p.median)) > 300,
    };
    return ["logx", "logy"].map((name) => {
      const box = this.fields[name];
      box.disabled = !possible[name];
      box.checked = possible[name] && (name in this.choices ? this.choices[name] === "1" : usual[name]);
      return box.checked;
    });
  },

  curves(common, groups, dash, drawn, { label, x, logx, logy }) {
    const floor = logy ? (d3.min(drawn, (p) => p.median) ?? 1) : -Infinity;
    const banded = (points) => points.filter((p) => Number.isFinite(p.low) && Number.isFinite(p.high));
    const low = (p) => (logy ? Math.max(p.low, floor / 10) : p.low);
    return Plot.plot({
      ...common,
      marginLeft: 56,
      marginRight: 20,
      x: { type: logx ? "log" : "linear", label: x, labelAnchor: "center", nice: !logx, tickFormat: logx ? "~g" : undefined, ticks: Math.max(3, common.width / 90) },
      y: { type: logy ? "log" : "linear", label, grid: true, tickFormat: logy ? "~g" : undefined, nice: true },
      marks: [
        ...groups.map(([, points]) => Plot.areaY(banded(points), { x: "x", y1: low, y2: "high", fill: points[0].colour, fillOpacity: 0.16 })),
        ...groups.map(([name, points]) => Plot.lineY(points, { x: "x", y: "median", stroke: points[0].colour, strokeWidth: 2, strokeDasharray: dash[name] })),
        ...groups.map(([, points]) => Plot.dot(points, { x: "x", y: "median", fill: points[0].colour, r: points.length > 40 ? 0 : 2.2 })),
        Plot.tip(drawn, Plot.pointer({ x: "x", y: "median", title: (p) => this.tip(p, x), fill: "var(--paper)" })),
      ],
    });
  },

  dots(common, drawn, { label, x, logy, order }) {
    const present = order.filter((name) => drawn.some((p) => p.x === name));
    const names = [...new Set(drawn.map((p) => p.name))];
    const wide = common.width > 560 ? 190 : 120;
    const cut = (text) => (text.length > wide / 6.4 ? text.slice(0, wide / 6.4 - 1) + "…" : text);
    return Plot.plot({
      ...common,
      height: 60 + present.length * Math.max(20, 7 * names.length),
      marginLeft: wide,
      marginRight: 20,
      x: { type: logy ? "log" : "linear", label, grid: true, tickFormat: logy ? "~g" : undefined, nice: true, ticks: Math.max(3, common.width / 110) },
      y: { type: "point", domain: present, label: null, tickFormat: cut, padding: 0.6 },
      marks: [
        ...names.map((name, i) => {
          const dy = names.length > 1 ? (i - (names.length - 1) / 2) * 6 : 0;
          const points = drawn.filter((p) => p.name === name);
          const interval = points.filter((p) => Number.isFinite(p.low) && Number.isFinite(p.high) && (!logy || p.low > 0));
          return [
            Plot.ruleY(interval, { x1: "low", x2: "high", y: "x", stroke: points[0].colour, strokeWidth: 2, strokeOpacity: 0.5, dy }),
            Plot.dot(points, { x: "median", y: "x", fill: points[0].colour, r: 4, dy }),
          ];
        }),
        Plot.tip(drawn, Plot.pointerY({ x: "median", y: "x", title: (p) => this.tip(p, x), fill: "var(--paper)" })),
      ],
    });
  },

  tip(p, x) {
    const band = Number.isFinite(p.low) ? ` [${short(p.low)}, ${short(p.high)}]` : "";
    const at = typeof p.x === "number" ? short(p.x) : p.x;
    return `${p.name}\n${x} ${at}: ${short(p.median)}${band}`;
  },

  describe(series, lost) {
    const { label, unit, units, low } = this.variable;
    const at = Object.entries(this.fixed).filter(([name]) => this.axis(name).values.length > 1 || name === "problem");
    const where = at.map(([name, i]) => `${this.axis(name).label} ${typeof this.place(name, i) === "number" ? short(this.place(name, i)) : this.place(name, i)}`);
    const across = this.axis(this.fields.x.value).label;
    $("#chart-title").textContent = `${label}${unit ? ` (${unit})` : ""} across ${across}` + (where.length ? `; ${where.join(", ")}` : "");
    const parts = [];
    if (units) parts.push(`Medians of ${units}${low ? ", with 95 % bootstrap intervals" : ""}.`);
    else if (low) parts.push("Medians with the intervals that the experiment stored.");
    if (lost) parts.push(`${lost} values are not drawn: infinite, or not positive on a logarithmic axis; the table has them.`);
    if (!series.length) parts.push("No line is chosen.");
    $("#chart-note").textContent = parts.join(" ");
  },

  table(series, x, every) {
    const place = $("#numbers .scroll");
    const at = [...new Set(every.map((p) => p.x))];
    const cell = (p) => (p ? short(p.median) + (Number.isNaN(p.low) || p.low === undefined ? "" : ` [${short(p.low)}, ${short(p.high)}]`) : "");
    const find = new Map(every.map((p) => [`${p.name}\n${p.x}`, p]));
    const rows = at.map((value) => [
      typeof value === "number" ? short(value) : value,
      ...series.map((one) => cell(find.get(`${one.name}\n${value}`))),
    ]);
    place.replaceChildren(numberTable([[this.axis(x).label, ...series.map((one) => one.name)], ...rows]));
  },

  write() {
    const parameters = new URLSearchParams();
    for (const name of ["experiment", "measure", "x", "lines"]) parameters.set(name, this.fields[name].value);
    for (const select of $$("#filters select")) parameters.set(select.name, select.value);
    for (const name of ["logx", "logy"]) if (name in this.choices) parameters.set(name, this.choices[name]);
    const boxes = $$("#shown input");
    const usual = boxes.every((box, order) => box.checked === order < this.MOST);
    if (boxes.length && !usual) {
      this.wanted = new Set();
      for (const box of boxes)
        if (box.checked) {
          this.wanted.add(box.value);
          parameters.append("show", box.value);
        }
      if (!this.wanted.size) parameters.set("show", "");
    } else this.wanted = null;
    address.write("explore", parameters);
  },
};
