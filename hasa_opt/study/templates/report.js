"use strict";
// Tables are sorted by a click on a heading; each select shows what is chosen, and all of one name agree.
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
const chosen = {};
const selects = [...document.querySelectorAll("select[data-choice]")];
const show = () => {
  for (const block of document.querySelectorAll("[data-measure], [data-cost]")) {
    block.hidden = Object.entries(chosen).some(([name, value]) => (block.dataset[name] ?? value) !== value);
  }
};
for (const select of selects) {
  const name = select.dataset.choice;
  chosen[name] ??= select.value;
  select.closest("label").hidden = false;
  select.addEventListener("change", () => {
    chosen[name] = select.value;
    selects.filter((other) => other.dataset.choice === name).forEach((other) => { other.value = select.value; });
    show();
  });
}
show();
