// Draws the charts and lets tables be sorted. Everything it needs is in the page.
"use strict";

// A click on a mark chooses its technique in all charts: the others fade. The same click again, or one beside all marks, chooses none.
const views = [];
function choose(name) {
  for (const view of views) view.signal("chosen", name).runAsync();
}
function linked({ view }) {
  views.push(view);
  view.addEventListener("click", (event, item) => {
    const name = item?.datum?.name ?? "";
    choose(name === view.signal("chosen") ? "" : name);
  });
}

// `ast` makes Vega interpret its expressions, so that the page can forbid `eval`.
const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "page" } };

for (const box of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(document.getElementById(box.dataset.chart).textContent);
  vegaEmbed(box, spec, options)
    .then((drawn) => { linked(drawn); box.dataset.state = "drawn"; })
    .catch((error) => {
      box.dataset.state = "failed";
      box.textContent = `This chart could not be drawn: ${error.message}. Its figures are in the table.`;
      console.error(error);
    });
}

// A click on a column's head sorts by it, a second one the other way round. Rows without a figure stay last.
function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const rising = header.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const key = (row) => row.children[column].dataset.key ?? "";
  const rows = [...body.rows].sort((a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    const numbers = Number(key(a)) - Number(key(b));
    const order = Number.isNaN(numbers) ? key(a).localeCompare(key(b)) : numbers;
    return rising ? order : -order;
  });
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  body.append(...rows);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// On paper everything that is folded away is unfolded.
const folded = () => document.querySelectorAll("details:not([open]):not([data-long])");
let opened = [];
addEventListener("beforeprint", () => { opened = [...folded()]; for (const part of opened) part.open = true; });
addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
