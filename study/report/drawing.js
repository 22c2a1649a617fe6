/* What Observable Plot draws for the explorer: pure functions from points to an SVG.

A point has `x`, `median`, `low`, `high`, the `name` and `colour` of its line and a `dash`. */
"use strict";

const drawing = {
  DASHES: [null, "6 2", "1.5 2", "6 2 1.5 2"],

  /** Lines with bands over a numeric axis; a point without a median leaves a gap. */
  curves(points, { width, label, x, logx, logy, at }) {
    const groups = d3.groups(points, (p) => p.name);
    const some = points.filter((p) => Number.isFinite(p.median));
    const floor = logy ? (d3.min(some, (p) => p.median) ?? 1) / 10 : -Infinity;
    const banded = (p) => Number.isFinite(p.median) && Number.isFinite(p.low) && Number.isFinite(p.high);
    const [low, high] = [(p) => (banded(p) ? Math.max(p.low, floor) : NaN), (p) => (banded(p) ? p.high : NaN)];
    return Plot.plot({
      ...drawing.common(width),
      height: Math.round(Math.min(460, Math.max(300, width * 0.5))),
      marginLeft: 56,
      x: { ...drawing.scale(logx), label: x, labelAnchor: "center", ticks: Math.max(3, width / 90) },
      y: { ...drawing.scale(logy, some), label, grid: true },
      marks: [
        at === undefined ? null : Plot.ruleX([at], { stroke: "currentColor", strokeOpacity: 0.5 }),
        groups.map(([, line]) => Plot.areaY(line, { x: "x", y1: low, y2: high, fill: line[0].colour, fillOpacity: 0.16 })),
        groups.map(([, line]) => Plot.lineY(line, { x: "x", y: "median", stroke: line[0].colour, strokeWidth: 2, strokeDasharray: line[0].dash })),
        groups.map(([, line]) => Plot.dot(line, { x: "x", y: "median", fill: line[0].colour, r: line.length > 40 ? 0 : 2.2 })),
        Plot.tip(some, Plot.pointer({ x: "x", y: "median", title: (p) => drawing.tip(p, x), fill: "var(--paper)" })),
      ],
    });
  },

  /** A row for each place of an axis of names, dots with their intervals. */
  dots(points, { width, label, x, logy, order }) {
    const present = order.filter((name) => points.some((p) => p.x === name));
    const groups = d3.groups(points, (p) => p.name);
    const wide = width > 560 ? 190 : 120;
    const cut = (text) => (text.length > wide / 6.4 ? text.slice(0, wide / 6.4 - 1) + "…" : text);
    const positive = (p) => Number.isFinite(p.low) && Number.isFinite(p.high) && (!logy || p.low > 0);
    return Plot.plot({
      ...drawing.common(width),
      height: 60 + present.length * Math.max(20, 7 * groups.length),
      marginLeft: wide,
      x: { ...drawing.scale(logy, points), label, grid: true, ticks: Math.max(3, width / 110) },
      y: { type: "point", domain: present, label: null, tickFormat: cut, padding: 0.6 },
      marks: [
        groups.map(([, some], i) => {
          const dy = (i - (groups.length - 1) / 2) * 6;
          return [
            Plot.ruleY(some.filter(positive), { x1: "low", x2: "high", y: "x", stroke: "colour", strokeWidth: 2.5, strokeOpacity: 0.45, dy }),
            Plot.dot(some, { x: "median", y: "x", fill: "colour", r: 4, dy }),
          ];
        }),
        Plot.tip(points, Plot.pointerY({ x: "median", y: "x", title: (p) => drawing.tip(p, x), fill: "var(--paper)" })),
      ],
    });
  },

  common(width) {
    const style = { background: "transparent", color: "inherit", fontSize: "12px", overflow: "visible" };
    return { width, marginRight: 24, color: { type: "identity" }, style };
  },

  /** Of values, if they are given: where all are one, with room around it. */
  scale(log, points = []) {
    const type = log ? { type: "log" } : { type: "linear", nice: true };
    const ends = points.flatMap((p) => [p.median, p.low ?? p.median, p.high ?? p.median]).filter(Number.isFinite);
    const [low, high] = d3.extent(ends);
    const one = points.length && low === high;
    const room = log ? [low / 10, low * 10] : low ? d3.sort([low / 2, low * 1.5]) : [-1, 1];
    return { ...type, tickFormat: short, ...(one ? { domain: room } : {}) };
  },

  tip(p, x) {
    return `${p.name}\n${x} ${shown(p.x)}: ${estimate(p)}`;
  },
};

/** A value with its interval. */
function estimate(p) {
  const banded = p.low !== undefined && !Number.isNaN(p.low);
  return short(p.median) + (banded ? ` [${short(p.low)}, ${short(p.high)}]` : "");
}

/** A place of an axis: a number in few digits, or its name. */
function shown(value) {
  return typeof value === "number" ? short(value) : value;
}
