// The guide: what scripts/speedgrid/report/advice.py decides, once more, so that the page answers live. tests/browser holds the two together.
"use strict";
{
  function figure(cell, ask) {
    if (ask.goal === "memory") return cell.memory;
    if (ask.goal === "energy") return cell.joule;
    if (cell.seconds === null || !cell.rate || (ask.starts && cell.start === null)) return null;
    const spread = ask.starts ? cell.start * ask.starts / 1000 : 0;  // what starts add to each reply
    const seconds = cell.seconds + spread;
    if (ask.goal === "latency") return seconds;
    const rate = spread ? cell.rate * cell.seconds / seconds : cell.rate;
    return ask.goal === "throughput" ? rate : (ask.price ?? 1) / (3600 * rate);
  }

  const fits = (cell, ask) => ask.budget === null || (cell.needs !== null && cell.needs <= ask.budget);
  const keeps = (cell, ask) => ask.loss === null || (cell.loss !== null && cell.loss <= ask.loss);

  function advise(cells, ask) {
    const sign = ask.goal === "throughput" ? -1 : 1;
    const ranked = cells.map((cell) => ({ cell, at: figure(cell, ask) })).filter(({ at }) => at !== null)
      .sort((a, b) => sign * (a.at - b.at) || (a.cell.technique < b.cell.technique ? -1 : 1));
    const pool = ranked.filter(({ cell }) => fits(cell, ask) && keeps(cell, ask));
    const names = (found) => found.map(({ cell }) => cell.technique);
    if (!pool.length) return { choice: null, figure: null, ties: [], open: [], runner_up: null, better: names(ranked) };
    const [{ cell: choice, at: best }, ...rest] = pool;
    const bySpeed = ["latency", "throughput", "money"].includes(ask.goal);
    const beats = (one, other) => one.compared && one.rate > other.rate && one !== other
      && !one.same.includes(other.technique) && !one.open.includes(other.technique);
    const tied = ({ cell, at }) => {
      if (ask.goal === "memory") return best >= at * (1 - 0.02);
      if (!bySpeed || !choice.same.includes(cell.technique)) return false;
      if (ask.starts && Math.max(best, at) > 1.05 * Math.min(best, at)) return false;
      return !pool.some((other) => beats(other.cell, cell));
    };
    return {
      choice: choice.technique,
      figure: best,
      ties: names(rest.filter(tied)),
      open: names(rest.filter(({ cell }) => bySpeed && choice.open.includes(cell.technique))),
      runner_up: names(rest.filter((one) => !tied(one)))[0] ?? null,
      better: names(ranked.filter(({ at }) => sign * at < sign * best)),
    };
  }

  const form = document.getElementById("guide");
  const answer = document.getElementById("guide-answer");
  const told = form && JSON.parse(document.getElementById("guide-data").textContent);
  const add = (tag, text, inside = answer) => Object.assign(inside.appendChild(document.createElement(tag)), { textContent: text });
  const short = (value) => (value >= 999.5 ? Math.round(value) : Number(value.toPrecision(3))).toLocaleString("en", { maximumFractionDigits: 20 });

  function inWords(value, ask, group) {
    if (ask.goal === "latency") return `${value < 1 ? `${short(1000 * value)} ms` : `${short(value)} s`} a ${group.noun}`;
    if (ask.goal === "throughput") return `${short(value)} ${group.unit}/s`;
    if (ask.goal === "memory") return `${short(value / 1e9)} GB`;
    if (ask.goal === "energy") return `${short(value)} J/${group.unit}`;
    const each = `${short(1e6 * value)}${ask.price === null ? " device hours" : ""} per million ${group.units}`;
    return ask.price === null ? each : `${each} at ${short(ask.price)} an hour`;
  }

  function show() {
    const { group: place, goal, cards, loss, starts, price } = form.elements;
    const card = told.cards[cards.value] ?? null;
    const group = told.groups[place.value];
    const ask = { goal: goal.value, budget: card && card * 1e9, loss: loss.value === "" ? null : Number(loss.value),
      starts: Number(starts.value), price: Number(price.value) > 0 ? Number(price.value) : group.price };
    price.placeholder = group.price ?? "";
    const of = Object.fromEntries(group.cells.map((cell) => [cell.technique, cell]));
    const named = (name) => [of[name].label, [inWords(figure(of[name], ask), ask, group), of[name].speedup].filter(Boolean).join(", ")];
    const list = (head, names, more = () => "") => {
      if (!names.length) return;
      add("h3", head);
      const items = add("ul", "");
      for (const name of names) add("li", `${named(name).join(": ")}${more(of[name])}`, items);
    };
    const why = (cell) => ` – ${[fits(cell, ask) ? "" : `needs ${cell.size}`, keeps(cell, ask) ? "" : cell.price].filter(Boolean).join("; ")}`;
    const found = advise(group.cells, ask);
    form.elements.card.value = card ? `${card} GB` : "any";
    answer.replaceChildren();
    answer.dataset.choice = found.choice ?? "";
    if (found.choice) {
      const [label, figures] = named(found.choice);
      const lead = add("p", "Take ");
      lead.className = "headline";
      add("strong", label, lead);
      lead.append(`: ${figures}.${["memory", "energy"].includes(ask.goal) || of[found.choice].sure ? "" : " That it is faster than the baseline is not sure."}`);
      const costs = add("ul", "");
      for (const cost of of[found.choice].costs) add("li", cost, costs);
      list("As good", found.ties);
      list("Perhaps as good: these runs cannot say", found.open);
      list("The next best", [found.runner_up].filter((name) => name && !found.open.includes(name)));
    } else {
      add("p", group.cells.length ? "Nothing that was measured here stays within these limits." : "Nothing was measured here.").className = "headline";
    }
    list("Better by this goal, and beyond your limits", found.better, why);
    const unknown = group.cells.filter((cell) => figure(cell, ask) === null).map((cell) => cell.label);
    if (unknown.length) add("p", `Measured, but not by this goal: ${unknown.join(", ")}.`).className = "small";
    if (group.unmeasured.length) add("p", `Not measured, so that nothing is said of them: ${group.unmeasured.join(", ")}.`).className = "small";
    if (!found.choice) return;
    const code = told.codes[of[found.choice].code];
    if (code) { add("h3", "The code for it"); add("pre", code); }
    add("h3", "The command that measured it");
    add("pre", group.command.replace("/@/", `/${found.choice}/`));
  }

  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", show);
    show();
  }
  globalThis.advise = advise;
}
