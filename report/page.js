// Draws charts where they are looked at, filters and sorts tables, and hands out data. Everything it needs is in the page.
"use strict";

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const one = (selector, inside = document) => inside.querySelector(selector);
const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const index = parsed("index");
const translated = (text, ...values) => (parsed("texts")[text] ?? text).replace(/\{(\d*)\}/g, (_, at) => values[at || 0]);

// Charts: what several have in common stands once in `parts` (report/embedding.py).
let collection;
function whole(value) {
  const part = (_, inner) => (inner !== null && typeof inner === "object" && "$" in inner ? whole(collection.parts[inner.$]) : inner);
  return JSON.parse(JSON.stringify(value), part);
}

function rowsOf(columns) {
  const lists = Object.entries(columns).map(([name, list]) => [name, Array.isArray(list) ? list : list.at.map((at) => list.levels[at])]);
  return (lists[0]?.[1] ?? []).map((_, row) => Object.fromEntries(lists.map(([name, list]) => [name, list[row]])));
}

// The specification of a chart, without the techniques that are filtered out: they leave its tables, and the domains of its scales.
function specification(name, hidden) {
  collection ??= parsed("charts");
  const { datasets, ...spec } = whole(collection.charts[name]);
  const gone = new Set();
  const kept = Object.fromEntries(Object.entries(datasets).map(([table, columns]) => {
    const rows = rowsOf(columns);
    const label = (row) => row.name ?? row.label;
    for (const row of rows) if (hidden.has(label(row))) gone.add(row.row).add(label(row));
    return [table, rows.filter((row) => !gone.has(row.row ?? label(row)))];
  }));
  const without = (_, value) => (Array.isArray(value) && gone.size ? value.filter((inner) => !gone.has(inner)) : value);
  const left = JSON.parse(JSON.stringify(spec), without);
  const rows = ({ layer }) => layer?.find((one) => one.encoding?.y?.field === "row")?.encoding.y.scale.domain.length;
  if (rows(spec)) left.height *= rows(left) / rows(spec);
  return { ...left, datasets: kept };
}

// A click on a mark chooses its technique in all charts: the others fade. The same click again, or one beside all marks, chooses none.
const views = new Map();
let picked = "";
function choose(event, item) {
  const name = item?.datum?.name ?? "";
  picked = name === picked ? "" : name;
  for (const view of views.values()) view.signal("chosen", picked).runAsync();
}

// `ast` makes Vega interpret its expressions, so that the page can forbid `eval`.
const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "page" } };

async function draw(box) {
  const hidden = hiddenIn(box);
  const wanted = [...hidden].join("\n");
  if (box.dataset.without === wanted) return;
  Object.assign(box.dataset, { without: wanted, state: "" });
  try {
    const { view } = await vegaEmbed(box, { ...specification(box.dataset.chart, hidden), description: box.ariaLabel }, options);
    views.set(box, view);
    view.addEventListener("click", choose);
    if (picked) view.signal("chosen", picked).runAsync();
    for (const svg of all("svg", box)) svg.setAttribute("aria-hidden", "true");  // the box has its words
    box.dataset.state = "drawn";
  } catch (error) {
    box.dataset.state = "failed";
    box.textContent = translated("This chart could not be drawn: {}. Its figures are in the table.", error.message);
    console.error(error);
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) draw(target);
}, { rootMargin: "300px" });
function drawInView() {
  watcher.disconnect();
  for (const box of all("[data-chart]")) watcher.observe(box);
}

// The arrow keys go from mark to mark of a chart and show what each is; Escape ends it.
document.addEventListener("keydown", (event) => {
  const { target: box, key } = event;
  const marks = !box.dataset?.chart ? [] : all("svg :is(path, text, line, rect)", box).filter((mark) => mark.__data__?.tooltip);
  if (!marks.length || !/^(Arrow|Escape)/.test(key)) return;
  event.preventDefault();
  const way = /Right|Down/.test(key) ? 1 : -1;
  const at = key === "Escape" ? -1 : ((box.mark ?? (way > 0 ? -1 : 0)) + way + marks.length) % marks.length;
  box.mark = at < 0 ? undefined : at;
  const mark = marks[Math.max(at, 0)];
  const { left, top, width, height } = mark.getBoundingClientRect();
  const place = { bubbles: true, clientX: left + width / 2, clientY: top + height / 2 };
  mark.dispatchEvent(new PointerEvent(at < 0 ? "pointerout" : "pointermove", place));
  mark.dispatchEvent(new MouseEvent(at < 0 ? "mouseout" : "mousemove", place));
  const words = Object.entries(mark.__data__.tooltip).map(([name, value]) => `${name}: ${value}`);
  if (at >= 0) document.getElementById("said").textContent = words.join("; ");
});

// Data and files.
function save(name, type, content) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A text that a spreadsheet would take for a formula is marked as a text.
const field = (value) => {
  const text = String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const csv = (lines) => lines.map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";

// A chart as SVG that needs no page: its colours are those of the page now, on the card's colour.
function picture(box) {
  const style = getComputedStyle(document.documentElement);
  const svg = one("svg", box).cloneNode(true);
  svg.insertAdjacentHTML("afterbegin", '<rect width="100%" height="100%" fill="var(--card)"/>');
  return new XMLSerializer().serializeToString(svg).replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

async function saveImage(box, name) {
  const { width, height } = one("svg", box).getBoundingClientRect();
  const image = Object.assign(new Image(), { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture(box))}` });
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(name, "image/png", blob));
}

// What a chart is made of: its tables, without what only places marks and labels, under the names of its axes and tooltips.
function tablesOf(box) {
  const { datasets, ...spec } = specification(box.dataset.chart, hiddenIn(box));
  const titles = { name: translated("technique"), label: translated("technique") };
  JSON.stringify(spec, (_, value) => (value?.field && value.title && (titles[value.field] ??= value.title), value));
  const isFigures = (first) => (first?.name ?? first?.label) && !("note" in first || "edge" in first);
  return Object.values(datasets).filter(([first]) => isFigures(first)).map((rows) => {
    const heads = Object.keys(rows[0]).filter((name) => !new RegExp(index.placing).test(name));
    const list = heads.find((name) => Array.isArray(rows[0][name]));  // of replies, each of which gets a line
    const lines = rows.flatMap((row) => (list ? row[list].map((value) => ({ ...row, [list]: value })) : [row]));
    return [heads.map((name) => titles[name] ?? index.heads[name] ?? name), ...lines.map((row) => heads.map((name) => row[name]))];
  }).filter(([heads]) => heads.length > (heads.includes(titles.outcome) ? 2 : 1));
}

const element = (tag, text, inside) => Object.assign(inside.appendChild(document.createElement(tag)), { textContent: text });

const button = (text, inside, action) => Object.assign(element("button", text, inside), { type: "button", onclick: action });

for (const part of all("details.data")) {
  part.addEventListener("toggle", () => {
    while (part.children.length > 1) part.lastChild.remove();
    if (!part.open) return;
    const box = one("[data-chart]", part.parentNode);
    const name = `speedgrid-${box.dataset.chart}`;
    const bar = element("p", "", part);
    button("SVG", bar, () => save(`${name}.svg`, "image/svg+xml", picture(box)));
    button("PNG", bar, () => saveImage(box, `${name}.png`));
    for (const [at, lines] of tablesOf(box).entries()) {
      const region = element("div", "", part);
      Object.assign(region, { className: "scroll", tabIndex: 0, role: "region", ariaLabel: translated("{0}, table {1}", box.dataset.chart, at + 1) });
      const table = element("table", "", region);
      for (const [number, line] of lines.entries()) {
        const row = table.insertRow();
        for (const value of line) element(number ? "td" : "th", value ?? "–", row);
      }
      offerCsv(region);
    }
  });
}

function offerCsv(region) {
  const name = (region.ariaLabel ?? document.getElementById(region.getAttribute("aria-labelledby")).textContent).trim();
  const shown = (part) => part?.innerText.replaceAll("\n", " ").trim();
  const told = (cell) => ("bound" in cell.dataset ? cell.firstChild.textContent : cell.dataset.key || shown(cell));
  const text = (cell) => shown(one("button", cell)) || told(cell).replace(/^–$/, "");
  const bar = Object.assign(element("p", "", region.parentNode), { className: "files" });
  region.after(bar);
  button("CSV", bar, () => {
    const rows = [...one("table", region).rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(text));
    save(`speedgrid-${name.replace(/\W+/g, "-")}.csv`, "text/csv", csv(rows));
  }).ariaLabel = translated("CSV of {}", name);
}
for (const region of all("section .scroll")) offerCsv(region);

// A click on a column's head sorts by it, a second one the other way round. Rows without a figure stay last.
function sortBy(header) {
  const heads = [...header.parentNode.children];
  const rising = header.ariaSort !== "ascending";
  const key = ({ children }, cell = children[heads.indexOf(header)]) => cell.dataset.key ?? cell.textContent;
  const order = (a, b) => key(a) - key(b) || key(a).localeCompare(key(b));
  for (const other of heads) other.ariaSort = null;
  header.ariaSort = rising ? "ascending" : "descending";
  const body = header.closest("table").tBodies[0];
  body.append(...[...body.rows].sort((a, b) => !key(a) - !key(b) || (rising ? order(a, b) : order(b, a))));
}

for (const head of all("th > button")) head.addEventListener("click", () => sortBy(head.parentNode));

// What a word means, where it stands: at the mouse and at the keyboard's focus.
const word = document.getElementById("word");
function explain({ type, target }) {
  const place = type.endsWith("out") ? null : target.closest("[data-word]");
  word.textContent = place && one(`#word-${place.dataset.word} dd`)?.textContent;
  word.hidden = !word.textContent;
  if (word.hidden) return;
  const { left, bottom } = place.getBoundingClientRect();
  word.style.left = `${Math.max(8, Math.min(left, innerWidth - word.offsetWidth - 8))}px`;
  word.style.top = `${bottom + 6}px`;
}
for (const on of ["mouseover", "mouseout", "focusin", "focusout"]) document.body.addEventListener(on, explain);

// Filters, search and columns.
const form = document.getElementById("filters");
const groups = all(".group");
const [kinds, places] = [["family", "engine", "dtype"], ["gpu", "model", "experiment"]];
const leftOut = new Map(groups.map((group) => [group.id, new Set()]));  // labels
const labelOf = (row) => (row.label ??= row.dataset.label ?? row.cells[0].firstChild?.textContent.trim() ?? "");

// The labels that are left out in every group that a part of the page is about; its `data-group` names them.
function hiddenIn(part) {
  const [first, ...others] = part.closest("[data-group]")?.dataset.group.split(" ").map((group) => leftOut.get(group)) ?? [];
  return new Set([...first ?? []].filter((label) => others.every((other) => other.has(label))));
}

function apply() {
  const wanted = Object.fromEntries(new FormData(form));
  const terms = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  const isOf = (label) => kinds.every((kind) => !wanted[kind] || index.techniques[label]?.[kind].includes(wanted[kind]));
  let [shown, total] = [0, 0];
  for (const group of groups) {
    const here = places.every((axis) => !wanted[axis] || group.dataset[axis] === wanted[axis]);
    const text = (label) => [label, index.techniques[label].name, ...places.map((axis) => group.dataset[axis])].join(" ").toLowerCase();
    const labels = [...one(".results", group).tBodies[0].rows].map(labelOf);
    const hidden = labels.filter((label) => !here || !isOf(label) || !terms.every((term) => text(label).includes(term)));
    leftOut.set(group.id, new Set(hidden));
    group.hidden = hidden.length === labels.length;
    shown += labels.length - hidden.length;
    total += labels.length;
  }
  for (const part of all("[data-group]")) {
    const hidden = hiddenIn(part);
    for (const row of part.matches("tr") ? [part] : all("tbody tr, [data-label]", part)) row.hidden = hidden.has(labelOf(row));
  }
  for (const row of all(".matrix tr")) {
    const heads = row.closest("table").tHead.rows[0].cells;
    row.hidden = document.getElementById(row.dataset.of)?.hidden ?? false;
    for (const cell of row.cells) cell.hidden = cell.cellIndex > 0 && !isOf(heads[cell.cellIndex].textContent);
  }
  one("output", form).textContent = shown < total
    ? translated("cells: {0} of {1}; answers and the choice are of all", shown, total) : translated("cells: all {}", total);
  drawInView();
}

// Columns are hidden by style, where their box is not ticked.
const showColumns = (names) => all("[name=show]", form).forEach((box) => Object.assign(box, { checked: names.includes(box.value) }));

form?.addEventListener("input", ({ target }) => {
  if (target.name === "show") form.elements.columns.value = "own";
  if (target.name === "columns") showColumns(index.presets[target.value]);
  apply();
});
form?.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("input", { bubbles: true }))));

// What is chosen in the page's forms stands in its address, where it is not what the page opens with; else an address names a section.
const fields = [...document.forms].flatMap(({ elements }) => [...elements]);
function chosen() {
  const data = [...document.forms].flatMap((one) => [...new FormData(one)]);
  return Object.fromEntries(fields.map(({ name }) => [name, data.filter(([of]) => of === name).map(([, value]) => value).join()]));
}
const opening = chosen();

document.addEventListener("input", () => {
  const state = new URLSearchParams(Object.entries(chosen()).filter(([name, value]) => value !== opening[name])).toString();
  if (state || location.hash.includes("=")) history.replaceState(null, "", `#${state}`);
});

function arrive() {
  const hash = decodeURIComponent(location.hash.slice(1));
  const target = document.getElementById(hash);
  if (hash.includes("=")) {
    const state = { ...opening, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
    for (const field of fields) {
      if (field.type === "checkbox") field.checked = state[field.name].split(",").includes(field.value);
      else field.value = state[field.name];
      if (field.selectedIndex < 0) field.value = opening[field.name];  // of a name that this page does not have
    }
    for (const one of document.forms) one.dispatchEvent(new Event("input"));
    fields.find(({ name }) => state[name] !== opening[name])?.form.closest("section, form.filters").scrollIntoView();
  } else if (target) {
    for (let part = one("details.fold", target) ?? target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", arrive);
arrive();
drawInView();

// Then what is not in view, so that it is there to be printed; of a page whose groups are folded away that is too much.
(async () => {
  for (const box of one(".fold") ? [] : all("[data-chart]")) {
    await new Promise((go) => setTimeout(go, 40)).then(() => box.checkVisibility() && draw(box));
  }
})();
