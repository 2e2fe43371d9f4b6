// The guide: what report/advice.py of the package decides, once more, so that the page answers live; tests/browser holds the two together.
{
  const starting = (cell, ask) => ask.starts ? cell.start * ask.starts / 1000 : 0;  // what starts add to each reply
  const isBySpeed = (ask) => ["latency", "throughput", "money"].includes(ask.goal);
  function figure(cell, ask) {
    if (ask.goal === "memory") return cell.needs;
    if (ask.goal === "energy") return cell.joule;
    if (cell.seconds === null || !cell.rate || (ask.starts && cell.start === null)) return null;
    const spread = starting(cell, ask);
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
    if (!pool.length) return { choice: null, figure: null, ties: [], open: [], runner_up: null, better: names(ranked), doubtful: [] };
    const tied = (best, { cell, at }) => (ask.goal === "memory" ? Math.min(best.at, at) >= Math.max(best.at, at) * (1 - 0.02)
      : isBySpeed(ask) && (ask.starts ? Math.max(best.at, at) <= 1.05 * Math.min(best.at, at) : best.cell.same.includes(cell.technique)));
    const isOpen = (best, { cell, at }) => (ask.goal === "memory" ? cell.by_device !== best.cell.by_device && Math.abs(at - best.at) <= 2 ** 30 / 5
      : ask.goal === "energy" ? (cell.about || best.cell.about) && Math.max(best.at, at) <= 1.25 * Math.min(best.at, at)
      : best.cell.open.includes(cell.technique) && (!ask.starts  // replying as fast
        || starting(cell, ask) + best.cell.seconds <= 1.05 * (starting(best.cell, ask) + best.cell.seconds)));
    const beats = ({ cell: a }, { cell: b }) => (a.compared || b.is_baseline) && a.rate > b.rate && ![...a.same, ...a.open].includes(b.technique);
    const surely = (other, one) => (isBySpeed(ask) ? beats(other, one) && starting(other.cell, ask) <= starting(one.cell, ask)
      : other.at < one.at && !tied(other, one) && !isOpen(other, one));
    const beaten = new Set(pool.filter((one) => pool.some((other) => surely(other, one))));
    const place = (one) => (isBySpeed(ask) || !tied(pool[0], one) ? 0 : -one.cell.rate);  // the fastest of those that take as little
    const order = [...pool].sort((a, b) => place(a) - place(b));
    const mayStay = (base, first = order[0]) => base.cell.is_baseline && (isBySpeed(ask)
      ? !beaten.has(base) && Math.max(first.at, base.at) <= 1.05 * Math.min(first.at, base.at)
      : tied(pool[0], base) && !beats(first, base) && first.cell.rate <= 1.05 * base.cell.rate);
    const [best, ...rest] = [...order].sort((a, b) => mayStay(b) - mayStay(a));
    const ties = rest.filter((other) => tied(best, other) && (!beaten.has(other) || (isBySpeed(ask) && ask.starts)));
    const left = rest.filter((other) => !ties.includes(other));
    const better = ranked.filter((other) => sign * other.at < sign * best.at && !pool.includes(other) && !tied(best, other));
    return {
      choice: best.cell.technique, figure: best.at, ties: names(ties), runner_up: names(left)[0] ?? null, better: names(better),
      open: names(left.filter((other) => isOpen(best, other) && !beaten.has(other))), doubtful: names(better.filter((other) => isOpen(best, other))),
    };
  }

  const form = document.getElementById("guide");
  const told = form && parsed("guide-data");
  for (const group of told?.groups ?? []) group.cells = rowsOf(group.cells);
  const answer = document.getElementById("guide-answer");
  const put = (name, content) => one(`[data-part=${name}]`, answer).replaceChildren(...content);
  const short = (value) => (value >= 999.5 ? Math.round(value) : Number(value.toPrecision(3))).toLocaleString("en", { maximumFractionDigits: 20 });
  function inWords(cell, ask, group, value = figure(cell, ask)) {
    if (ask.goal === "latency") return translated("{0} a {1}", value < 1 ? `${short(1000 * value)} ms` : `${short(value)} s`, group.noun);
    if (ask.goal === "throughput") return `${short(value)} ${group.unit}/s`;
    if (ask.goal === "memory") return `${short(value / 1e9)} GB`;
    const joule = `${short(value)} J/${group.unit}`;
    if (ask.goal === "energy") return cell.about ? translated("about {} (from mean power)", joule) : joule;
    if (ask.price === null) return translated("{0} device hours per million {1}", short(1e6 * value), group.units);
    return translated("{0} per million {1} at {2} an hour", short(1e6 * value), group.units, short(ask.price));
  }
  function show() {
    const { group: place, goal, cards, card, loss, starts, price } = form.elements;
    const [[size, budget], group] = [told.cards[cards.value] ?? [null, null], told.groups[place.selectedIndex]];
    price.placeholder = group.price ?? "";
    card.value = size ? `${size} GB` : translated("any");
    if (!price.validity.valid) return;  // the page says what is allowed in the place of the answer
    const ask = { goal: goal.value, budget, loss: loss.value === "" ? null : Number(loss.value),
      starts: Number(starts.value), price: price.value ? Number(price.value) : group.price };
    const given = { goal: ask.goal, vram: size, "max-loss": loss.value ? `${100 * loss.value}%` : "any", starts: ask.starts, price: price.value };
    const of = Object.fromEntries(group.cells.map((cell) => [cell.technique, cell]));
    const figures = (name, gain = !ask.starts && of[name].speedup) => [inWords(of[name], ask, group), gain].filter(Boolean).join(", ");
    const list = (part, texts) => put(part, texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    const named = (part, names, more = () => "") => list(part, names.map((name) => `${of[name].label}: ${figures(name)}${more(of[name])}`));
    const doubt = ({ technique }) => doubtful.includes(technique) && translated("perhaps no better");
    const why = (c) => ` – ${[fits(c, ask) ? "" : c.beyond, keeps(c, ask) ? "" : c.price, doubt(c)].filter(Boolean).join("; ")}`;
    const { choice, ties, open, runner_up: next, better, doubtful } = advise(group.cells, ask);
    const bold = Object.assign(document.createElement("strong"), { textContent: of[choice]?.label });
    answer.dataset.choice = choice ?? "";
    const [before, after] = choice ? translated("Take {0}: {1}.", "\0", figures(choice, !ask.starts && of[choice].as_fast)).split("\0") : [];
    const sure = isBySpeed(ask) ? of[choice]?.beside : ask.goal === "energy" || open.length ? group.sure[ask.goal] : "";
    put("lead", choice ? [before, bold, after, ` ${sure}`] : [group.none]);
    list("costs", choice ? of[choice].costs : []);
    for (const [part, names] of Object.entries({ ties, open, next: next && !open.includes(next) ? [next] : [] })) named(part, names);
    named("better", better, why);
    const unknown = group.cells.filter((cell) => figure(cell, ask) === null).map((cell) => cell.label).join(", ");
    put("unknown", unknown ? [translated("Measured, but without a figure for this goal: {}.", unknown)] : []);
    put("unmeasured", [group.unmeasured]);
    put("code", choice ? [told.codes[of[choice].code]] : []);
    put("advise", [group.advise, ...Object.entries(given).filter(([, one]) => one).map(([name, one]) => ` --${name} ${one}`)]);
    put("command", choice ? [group.command.replace("/@/", `/${choice}/`)] : []);
  }
  form?.addEventListener("input", show);
  if (form) show();
  globalThis.advise = advise;
}
