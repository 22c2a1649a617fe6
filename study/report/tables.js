/* Tables that sort by their headers and are filtered by the form above them. */
"use strict";

const tables = {
  start() {
    for (const table of $$("table.sortable")) this.sortable(table);
    for (const form of $$("form[data-for]")) this.filtered(form);
  },

  /** Every header becomes a button: ascending, then descending. */
  sortable(table) {
    for (const header of $$("thead th", table)) {
      const button = element("button", { type: "button" }, ...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "ascending";
        this.sort(table, header, down);
        this.write(table);
      });
    }
  },

  sort(table, header, down) {
    const column = header.cellIndex;
    const value = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return text === "" || Number.isNaN(Number(text)) ? text.toLowerCase() : Number(text);
    };
    const missing = (v) => v === "" || v === "nan";
    const rows = $$("tbody tr", table).map((row) => [value(row), row]);
    rows.sort(([a], [b]) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b); // always last
      const order = typeof a === typeof b ? d3.ascending(a, b) : typeof a === "number" ? -1 : 1;
      return down ? -order : order;
    });
    for (const other of $$("thead th", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows.map(([, row]) => row));
  },

  filtered(form) {
    const table = document.getElementById(form.dataset.for);
    const section = form.closest("section");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target.name === "from") this.measure(table, form.elements.from.value);
      this.filter(form, table);
      this.write(table);
    });
    address.sections[section.id] = (parameters) => {
      for (const field of form.elements)
        if (field.name) field.value = parameters.get(field.name) ?? "";
      if (form.elements.from?.value) this.measure(table, form.elements.from.value);
      const sorted = parameters.get("sort");
      const header = $$("thead th", table).find((h) => h.textContent === sorted?.replace(/^-/, ""));
      if (header) this.sort(table, header, sorted.startsWith("-"));
      this.filter(form, table);
    };
    this.filter(form, table);
  },

  /** Hides the rows that do not match, and says how many do. */
  filter(form, table) {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...form.elements].filter(
      (field) => field.tagName === "SELECT" && field.name !== "from" && field.value,
    );
    let count = 0;
    const rows = $$("tbody tr", table);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const kept =
        words.every((word) => text.includes(word)) &&
        chosen.every((field) => row.dataset[field.name].split(" ").includes(field.value));
      row.hidden = !kept;
      count += kept;
    }
    $(".found", form).textContent = `${count} of ${rows.length} shown`;
  },

  write(table) {
    const form = $(`form[data-for="${table.id}"]`);
    const parameters = new URLSearchParams();
    for (const field of form.elements)
      if (field.name && field.value) parameters.set(field.name, field.value);
    const header = $("th[aria-sort]", table);
    if (header) {
      const down = header.getAttribute("aria-sort") === "descending";
      parameters.set("sort", (down ? "-" : "") + header.textContent);
    }
    address.write(form.closest("section").id, parameters);
  },

  /** Offers a column with the angle from any one rule. */
  compare(angles) {
    if (!angles) return;
    const table = $("#atlas-table");
    const select = $("#reference select");
    const known = new Set(angles.names);
    select.append(element("option", { value: "" }, "no rule"));
    for (const row of $$("tbody tr", table))
      if (known.has(row.dataset.name))
        select.append(element("option", { value: row.dataset.name }, row.cells[0].firstChild.nextSibling.textContent.trim()));
    $("#reference").hidden = false;
    this.angles = angles;
  },

  measure(table, reference) {
    const { names, degrees } = this.angles;
    const n = names.length;
    const from = names.indexOf(reference);
    const header = $("#atlas-from");
    header.hidden = from < 0;
    header.lastChild.textContent = `From ${reference}`;
    for (const row of $$("tbody tr", table)) {
      const cell = $(".from", row);
      const to = names.indexOf(row.dataset.name);
      const [i, j] = [Math.min(from, to), Math.max(from, to)];
      const place = (i * (2 * n - i - 1)) / 2 + (j - i - 1);
      const value = i < 0 ? null : i === j ? 0 : degrees[place];
      cell.hidden = from < 0;
      cell.dataset.value = value ?? "";
      cell.textContent = value === null ? "" : short(value);
    }
  },
};
