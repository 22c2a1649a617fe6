/* The drawing in words and numbers: its title, its notes, values at one place, a table. */
"use strict";

const reading = {
  /** Title and notes; the frame of the drawing is labelled by them. */
  describe(view, series, lost) {
    const { label, unit, units, low } = view.variable;
    const set = Object.entries(view.fixed).filter(([name]) => view.axis(name).values.length > 1);
    const where = set.map(([name, i]) => `${view.axis(name).label} ${shown(view.place(name, i))}`);
    const across = view.axis(view.fields.x.value).label;
    const title = `${capital(label)}${unit ? ` (${unit})` : ""} across ${across}`;
    $("#chart-title").textContent = [title, where.join(", ")].filter(Boolean).join("; ");
    const notes = [];
    if (units) notes.push(`Medians of ${units}${low ? " with 95 % bootstrap intervals" : ""}.`);
    else if (low) notes.push("Medians with the intervals that the experiment stored.");
    if (lost) notes.push(`Not drawn: ${lost} values, infinite or not positive on a logarithmic axis; the table has them.`);
    if (!series.length) notes.push("No line is chosen.");
    $("#chart-note").textContent = notes.join(" ");
  },

  /** Every value drawn, a column for each line. */
  table(across, series) {
    const places = [...new Set(series.flatMap((one) => one.points.map((p) => p.x)))];
    if (typeof places[0] === "number") places.sort(d3.ascending);
    const columns = series.map((one) => new Map(one.points.map((p) => [p.x, estimate(p)])));
    const rows = places.map((x) => [shown(x), ...columns.map((column) => column.get(x) ?? "")]);
    $("#numbers .scroll").replaceChildren(numberTable([[across, ...series.map((one) => one.name)], ...rows]));
  },

  /** Values of all lines where the slider stands; returns that place of the axis. */
  at(view, across, series) {
    const { stops } = view;
    const [frame, slider] = [$("#reading"), $("#reading input")];
    frame.hidden = stops.length < 2;
    if (frame.hidden) return undefined;
    const found = stops.findIndex((stop) => String(stop) === String(view.choices.at));
    const place = found < 0 ? stops.length - 1 : found;
    Object.assign(slider, { min: 0, max: stops.length - 1, value: place });
    const words = `${across} ${short(stops[place])}`;
    slider.setAttribute("aria-valuetext", words);
    $("#reading output").textContent = words;
    const values = series.map((one) => ({ ...one, point: one.points.find((p) => p.x === stops[place]) }));
    const items = values.filter((one) => one.point).map(({ name, point, points }) => {
      const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--colour", points[0].colour);
      const rate = reading.rate(view, point);
      return element("li", {}, swatch, `${name} `, element("b", {}, estimate(point)), element("small", {}, rate));
    });
    $("#reading ul").replaceChildren(...items);
    return stops[place];
  },

  /** The learning rate that was selected for a line, where the records tell. */
  rate(view, { places }) {
    const { rates } = view.source;
    if (!rates || "learning_rate" in places || !("optimizer" in places)) return "";
    const rate = rates[places.problem]?.[places.optimizer];
    return typeof rate === "number" ? ` rate ${short(rate)}` : "";
  },
};
