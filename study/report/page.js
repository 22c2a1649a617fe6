/* The page around its drawings: data, address, theme, pictures, tables of numbers.

The address holds the view: `#SECTION?name=value&...`. A section that keeps state registers
`restore(parameters)`; what its controls change is written back with `address.write`. */
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children; text stays text. */
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Four digits, as the study's tables have them. */
function short(value) {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en");
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e6 ? value.toExponential(3) : value.toPrecision(4);
  return String(text.includes("e") ? text.replace(/\.?0*e\+?/, "e") : Number(text)).replace("-", "−");
}

/** A stored number: infinity is a word, an undefined value null. */
function number(value) {
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : (value ?? NaN);
}

/** For the beginning of a line. */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const address = {
  sections: {},

  read() {
    const [id, query] = location.hash.slice(1).split("?");
    return [id, new URLSearchParams(query ?? "")];
  },

  write(id, parameters) {
    const query = parameters.toString();
    history.replaceState(null, "", `#${id}${query ? "?" + query : ""}`);
  },

  follow() {
    const [id, parameters] = this.read();
    const target = id && document.getElementById(id);
    if (!target) return;
    if ([...parameters].length) this.sections[id]?.(parameters);
    target.scrollIntoView();
  },
};

/** The data of the page: JSON, compressed, in base64. */
async function unpack() {
  const bytes = Uint8Array.from(atob($("#data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const theme = {
  dark: () => {
    if (matchMedia("print").matches) return false;
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },
  listeners: [],

  start() {
    const button = $("#theme");
    const show = () => {
      button.textContent = theme.dark() ? "Light" : "Dark";
      theme.listeners.forEach((listen) => listen());
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = theme.dark() ? "light" : "dark";
      show();
    });
    for (const query of ["(prefers-color-scheme: dark)", "print"])
      matchMedia(query).addEventListener("change", show);
    show();
  },
};

/** A colour made for white paper, with a contrast of 3 or more to light and dark ground. */
function inked(colour) {
  const lab = d3.lab(colour);
  lab.l = theme.dark() ? 58 + 0.4 * lab.l : Math.min(lab.l, 57);
  return lab.formatHex();
}

/** Pictures beside the findings: each is in the page once, in its chapter. */
function showPictures() {
  for (const link of $$("a[data-figure]")) {
    const picture = $(`[id="${CSS.escape(link.dataset.figure)}"] img`);
    if (!picture) continue;
    const copy = element("img", { alt: link.textContent, loading: "lazy" });
    for (const name of ["width", "height", "src"]) copy[name] = picture[name];
    link.replaceChildren(copy);
  }
}

/** A table from rows of text, the first of them its header. */
function numberTable([header, ...rows]) {
  const head = element("tr", {}, ...header.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  return element("table", { class: "numbers" }, element("thead", {}, head), element("tbody", {}, ...body));
}

document.addEventListener("DOMContentLoaded", async () => {
  showPictures();
  theme.start();
  tables.start();
  const data = await unpack();
  for (const details of $$("details.table")) {
    details.addEventListener("toggle", () => {
      const place = $(".scroll", details);
      if (details.open && !place.hasChildNodes())
        place.append(numberTable(data.tables[details.dataset.table]));
    });
  }
  tables.compare(data.angles);
  explorer.start(data.records);
  addEventListener("hashchange", () => address.follow());
  address.follow();
  document.documentElement.dataset.ready = "";
});
