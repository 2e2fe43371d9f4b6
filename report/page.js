// Draws charts where they are looked at, filters and sorts tables, and hands out data. Everything it needs is in the page.
"use strict";

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const one = (selector, inside = document) => inside.querySelector(selector);
const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const index = parsed("index");
const say = (text) => { document.getElementById("said").textContent = text; };

// Charts: what several have in common stands once in `parts` (report/embedding.py).

let collection;
function whole(value) {
  if (Array.isArray(value)) return value.map(whole);
  if (value === null || typeof value !== "object") return value;
  if ("$" in value) return whole(collection.parts[value.$]);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, whole(inner)]));
}

function rowsOf(columns) {
  const lists = Object.entries(columns).map(([name, list]) => [name, Array.isArray(list) ? list : list.at.map((at) => list.levels[at])]);
  return (lists[0]?.[1] ?? []).map((_, row) => Object.fromEntries(lists.map(([name, list]) => [name, list[row]])));
}

// The specification of a chart, without the techniques that are filtered out.
function specification(name, hidden = new Set()) {
  collection ??= parsed("charts");
  const spec = whole(collection.charts[name]);
  const gone = new Set();
  for (const [table, columns] of Object.entries(spec.datasets)) {
    const rows = rowsOf(columns);
    const label = (row) => row.name ?? row.label;
    for (const row of rows) if (hidden.has(label(row))) gone.add(row.row).add(label(row));
    spec.datasets[table] = rows.filter((row) => !gone.has(row.row ?? label(row)));
  }
  if (!gone.size) return spec;
  let [before, after] = [1, 1];
  const pruned = (value) => {
    if (Array.isArray(value)) {
      const kept = value.filter((inner) => !gone.has(inner));
      if (kept.length < value.length) [before, after] = [value.length, kept.length];
      return kept.map(pruned);
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, name === "datasets" ? inner : pruned(inner)]));
  };
  const left = pruned(spec);
  if (left.layer?.some((layer) => layer.encoding?.y?.field === "row")) left.height *= after / before;
  return left;
}

// A click on a mark chooses its technique in all charts: the others fade. The same click again, or one beside all marks, chooses none.
const views = new Map();
let picked = "";
function choose(name) {
  picked = name;
  for (const view of views.values()) view.signal("chosen", name).runAsync();
}
function linked(box, view) {
  if (!("chosen" in view.getState({ signals: (name) => name === "chosen" }).signals)) return;
  views.set(box, view);
  if (picked) view.signal("chosen", picked).runAsync();
  view.addEventListener("click", (event, item) => {
    const name = item?.datum?.name ?? "";
    choose(name === picked ? "" : name);
  });
}

// `ast` makes Vega interpret its expressions, so that the page can forbid `eval`.
const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { theme: "page" } };

function draw(box) {
  const hidden = hiddenIn.get(box.closest(".group")) ?? new Set();
  const wanted = [...hidden].join("\n");
  if (box.dataset.state && box.dataset.without === wanted) return;
  box.dataset.without = wanted;
  box.dataset.state = "";
  try {
    vegaEmbed(box, specification(box.dataset.chart, hidden), options).then(({ view }) => {
      linked(box, view);
      for (const svg of all("svg", box)) svg.setAttribute("aria-hidden", "true");  // the box has its words
      box.dataset.state = "drawn";
    }).catch((error) => failed(box, error));
  } catch (error) { failed(box, error); }
}

function failed(box, error) {
  box.dataset.state = "failed";
  box.textContent = `This chart could not be drawn: ${error.message}. Its figures are in the table.`;
  console.error(error);
}

const boxes = all("[data-chart]");
const inView = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    inView[isIntersecting ? "add" : "delete"](target);
    if (isIntersecting) draw(target);
  }
}, { rootMargin: "300px" });

// The arrow keys go from mark to mark of a chart and show what each is; Escape ends it.
function step(box, key) {
  const marks = all("svg path, svg text, svg line, svg rect", box).filter((mark) => mark.__data__?.tooltip);
  if (!marks.length) return;
  const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
  const at = key === "Escape" ? -1 : ((box.mark ?? (way > 0 ? -1 : 0)) + way + marks.length) % marks.length;
  box.mark = at < 0 ? undefined : at;
  const mark = marks[Math.max(at, 0)];
  const { left, top, width, height } = mark.getBoundingClientRect();
  const place = { bubbles: true, clientX: left + width / 2, clientY: top + height / 2 };
  for (const type of at < 0 ? ["pointerout", "mouseout"] : ["pointermove", "mousemove"]) {
    mark.dispatchEvent(new (type.startsWith("p") ? PointerEvent : MouseEvent)(type, place));
  }
  if (at >= 0) say(Object.entries(mark.__data__.tooltip).map(([name, value]) => `${name}: ${value}`).join("; "));
}

for (const box of boxes) {
  watcher.observe(box);
  box.addEventListener("keydown", (event) => {
    if (!/^(Arrow|Escape)/.test(event.key)) return;
    event.preventDefault();
    step(box, event.key);
  });
}

// Data and files.

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.download = name;
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

function saveImage(box, name) {
  const { width, height } = one("svg", box).getBoundingClientRect();
  const image = new Image();
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    canvas.toBlob((blob) => save(name, "image/png", blob));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture(box))}`;
}

// What a chart is made of: its tables, without what only places marks and labels.
const PLACING = /^(row|jitter|end|d[xy]|align|led|label_lines|text_dy|lead_dy|state|kind|text|technique|y|mark|room)$/;
function tablesOf(box) {
  const tables = Object.values(specification(box.dataset.chart, hiddenIn.get(box.closest(".group"))).datasets);
  return tables.filter((rows) => rows.length && (rows[0].name ?? rows[0].label) !== undefined || rows.length && "row" in rows[0]).map((rows) => {
    const names = Object.keys(rows[0]).filter((name) => !PLACING.test(name));
    const label = (row) => String(row.row ?? "").replaceAll("\n", " ").replaceAll("\u200b", "");
    const heads = names.includes("name") || names.includes("label") ? names : ["name", ...names];
    return [heads, ...rows.map((row) => heads.map((name) => (name in row ? row[name] : label(row))))];
  });
}

function element(tag, text, inside) {
  const made = inside.appendChild(document.createElement(tag));
  made.textContent = text;
  return made;
}

function button(text, inside, action) {
  const made = element("button", text, inside);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

for (const part of all("details.data")) {
  part.addEventListener("toggle", () => {
    while (part.children.length > 1) part.lastChild.remove();
    if (!part.open) return;
    const box = one("[data-chart]", part.parentNode);
    const name = `speedgrid-${box.dataset.chart}`;
    const tables = tablesOf(box);
    const bar = element("p", "", part);
    button("SVG", bar, () => save(`${name}.svg`, "image/svg+xml", picture(box)));
    button("PNG", bar, () => saveImage(box, `${name}.png`));
    tables.forEach((lines, at) => {
      button(tables.length > 1 ? `CSV ${at + 1}` : "CSV", bar, () => save(`${name}${at ? `-${at + 1}` : ""}.csv`, "text/csv", csv(lines)));
      const region = element("div", "", part);
      Object.assign(region, { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `Data of ${name}, table ${at + 1}` });
      const table = element("table", "", region);
      lines.slice(0, 200).forEach((line, row) => {
        const made = table.appendChild(document.createElement("tr"));
        line.forEach((value, column) => {
          const cell = element(row && column ? "td" : "th", value ?? "–", made);
          if (cell.tagName === "TH") cell.scope = row ? "row" : "col";
        });
      });
      if (lines.length > 200) element("p", `The first 199 of ${lines.length - 1} rows; the CSV has all.`, part).className = "small";
    });
  });
}

for (const region of all("section .scroll")) {
  const table = one("table", region);
  const name = (region.getAttribute("aria-label") ?? document.getElementById(region.getAttribute("aria-labelledby")).textContent);
  const bar = document.createElement("p");
  bar.className = "files";
  region.after(bar);
  button("CSV", bar, () => {
    const text = (cell) => one("button", cell)?.innerText.replaceAll("\n", " ") || (cell.dataset.key ?? cell.innerText.replaceAll("\n", " ").trim());
    save(`speedgrid-${name.trim().replace(/\W+/g, "-")}.csv`, "text/csv", csv([...table.rows].map((row) => [...row.cells].map(text))));
  }).ariaLabel = `CSV of ${name.trim()}`;
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

for (const head of all("th > button")) head.addEventListener("click", () => sortBy(head.parentNode));

// What a word means, where it stands: at the mouse and at the keyboard's focus.

const word = document.getElementById("word");
for (const place of all("[data-word]")) {
  const meaning = one(`#word-${place.dataset.word} dd`);
  if (!meaning) continue;
  const show = () => {
    word.textContent = meaning.textContent;
    word.hidden = false;
    const { left, bottom } = place.getBoundingClientRect();
    word.style.left = `${Math.max(8, Math.min(left, innerWidth - word.offsetWidth - 8))}px`;
    word.style.top = `${bottom + 6}px`;
  };
  for (const on of ["mouseenter", "focus"]) place.addEventListener(on, show);
  for (const off of ["mouseleave", "blur"]) place.addEventListener(off, () => { word.hidden = true; });
  place.setAttribute("aria-describedby", "word");
}

// Filters, search and columns; what is chosen stands in the address.

const form = document.getElementById("filters");
const groups = all(".group");
const hiddenIn = new Map();
const labelOf = (row) => (row.label ??= row.cells[0].textContent.trim());
const kinds = ["family", "engine", "dtype"];

function chosen() {
  const data = new FormData(form);
  const found = Object.fromEntries([...data].filter(([name, value]) => value && name !== "show"));
  if (found.columns === "own") found.columns = data.getAll("show").join(",");
  return found;
}

function fits(label, group, wanted, terms) {
  const known = index.techniques[label] ?? {};
  const text = `${label} ${known.name} ${group ? Object.values(group.dataset).join(" ") : ""}`.toLowerCase();
  return kinds.every((kind) => !wanted[kind] || known[kind]?.includes(wanted[kind])) && terms.every((term) => text.includes(term));
}

function apply() {
  const wanted = chosen();
  const terms = (wanted.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  let [shown, total] = [0, 0];
  for (const group of groups) {
    const here = ["gpu", "model", "experiment"].every((axis) => !wanted[axis] || group.dataset[axis] === wanted[axis]);
    const labels = [...one(".results", group).tBodies[0].rows].map(labelOf);
    const hidden = new Set(labels.filter((label) => !here || !fits(label, group, wanted, terms)));
    hiddenIn.set(group, hidden);
    group.hidden = hidden.size === labels.length;
    shown += labels.length - hidden.size;
    total += labels.length;
    for (const row of all("tbody tr", group)) row.hidden = hidden.has(labelOf(row));
  }
  for (const table of all(".matrix")) {
    const gone = [...table.tHead.rows[0].cells].map((head, at) => at > 0 && !kinds.every((kind) => !wanted[kind]
      || index.techniques[head.textContent]?.[kind].includes(wanted[kind])));
    for (const row of table.rows) {
      row.hidden = document.getElementById(row.dataset.group)?.hidden ?? false;
      gone.forEach((hidden, at) => { row.cells[at].hidden = hidden; });
    }
  }
  for (const row of all("main > section tr[data-group]:not(.matrix *)")) {
    row.hidden = hiddenIn.get(document.getElementById(row.dataset.group)).has(labelOf(row));
  }
  one("output", form).textContent = shown < total ? `${shown} of ${total} cells` : `all ${total} cells`;
  showColumns(wanted.columns);
  const state = new URLSearchParams(wanted).toString();
  if (state || location.hash.includes("=")) history.replaceState(null, "", `#${state}`);
  for (const box of inView) draw(box);
}

function showColumns(choice = "standard") {
  const own = choice.split(",");
  const ticked = new Set();
  const rules = Object.entries(index.columns).flatMap(([kind, names]) => {
    const shown = choice === "all" ? names : index.presets[choice]?.[kind] ?? own;
    for (const name of names) if (shown.includes(name)) ticked.add(name);
    return names.map((name, at) => (shown.includes(name) ? "" : `.${kind} :is(th, td):nth-child(${at + 3}) { display: none; }`));
  });
  document.getElementById("columns").textContent = rules.join("\n");
  for (const tick of all("[name=show]", form)) tick.checked = ticked.has(tick.value);
}

// An address names a section, or what was chosen.
function arrive() {
  const hash = decodeURIComponent(location.hash.slice(1));
  if (form && hash.includes("=")) {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of state) if (form.elements[name] && name !== "show") form.elements[name].value = value;
    const columns = state.get("columns");
    if (columns && form.elements.columns.value !== columns) {
      form.elements.columns.value = "own";
      for (const tick of all("[name=show]", form)) tick.checked = columns.split(",").includes(tick.value);
    }
    return apply();
  }
  const target = hash && document.getElementById(hash);
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  const fold = one("details.fold", target);
  if (fold) fold.open = true;
  target.scrollIntoView();
}

if (form) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "show") form.elements.columns.value = "own";
    apply();
  });
  form.addEventListener("reset", () => setTimeout(apply));
  showColumns();
}
addEventListener("hashchange", arrive);
arrive();

// On paper everything that is folded away is unfolded, but for what is long.
const folded = () => all("details:not([open]):not([data-long], .fold, .data, .choose)");
let opened = [];
addEventListener("beforeprint", () => { opened = folded(); for (const part of opened) part.open = true; });
addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
