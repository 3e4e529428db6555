"use strict";
// Tables are sorted by a click on a heading; each select shows one of the plots below it.
const numberOf = (cell) => {
  const found = cell.textContent.replaceAll("\u2212", "-").match(/-?\d[\d.,]*/);
  return found ? Number(found[0].replaceAll(",", "")) : NaN;
};
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") === "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({ row, text: row.cells[at].textContent.trim(), value: numberOf(row.cells[at]) }));
      const words = at === 0 || rows.every((each) => Number.isNaN(each.value));
      rows.sort((a, b) => {
        if (words) return up ? a.text.localeCompare(b.text) : b.text.localeCompare(a.text);
        if (Number.isNaN(a.value) || Number.isNaN(b.value)) return Number.isNaN(a.value) - Number.isNaN(b.value);
        return up ? a.value - b.value : b.value - a.value;
      });
      body.append(...rows.map((each) => each.row));
    });
  });
}
for (const select of document.querySelectorAll("select[data-plots]")) {
  const plots = [...document.querySelectorAll(`[data-plot="${select.dataset.plots}"]`)];
  const show = () => plots.forEach((plot, at) => { plot.hidden = at !== select.selectedIndex; });
  select.closest("label").hidden = false;
  select.addEventListener("change", show);
  show();
}
