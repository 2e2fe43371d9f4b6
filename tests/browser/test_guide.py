"""The guide in a real browser: its rules are those of report/advice.py, and the form changes what is advised."""

import json
import random
import shlex
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "unit"))

import records_factory as made
from browsers import until
from speedgrid.known import GB, usable
from speedgrid.report.advice import BY_SPEED, GOALS, Ask, Option, advise

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
PRUNED = made.Made("prune_50", "Pruned by 50 %", "compression", 190.0, peak=500, bits_per_byte=5.2, lossless=False, again=(189.0, 191.0))
# In the place of Vega, which takes seconds.
WITHOUT_CHARTS = """const vegaEmbed = async () => ({ view: {
  addEventListener() {}, getState() { return { signals: {} }; }, signal() { return this; }, runAsync() {},
} });"""
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


STUDY = made.study(models=("stdlib-llama", "llama-3b")) | {"techniques": {}, "prices": {"local": 4}}


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> list[dict]:
    """Two groups, one on a GPU: a lossy technique, an engine whose memory the driver told, names that try to break out."""
    folder = tmp_path_factory.mktemp("guide")
    engine = made.Made("vllm", "vLLM", "engine", 88.0, peak=9_000, facts={"memory_source": "device", "energy": 900.0, "energy_valid": True})
    cells = [replace(cell, label=cell.label + HOSTILE) for cell in (*made.DEFAULT_CELLS, PRUNED, engine)]
    return [*made.write_group(folder), *made.write_group(folder, cells, gpu="h200", model="llama-3b", machine=made.GPU_MACHINE)]


@pytest.fixture(scope="module")
def page(grid, tmp_path_factory) -> Path:
    from report_data import page_of
    from speedgrid.report.rendering import read_parts

    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(grid, STUDY, replace(read_parts(), vega=WITHOUT_CHARTS)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def generated(draw: random.Random) -> tuple[list[Option], Ask]:
    """A set of cells with verdicts that are symmetrical, and a question; equal figures are common."""
    names = [f"technique_{letter}" for letter in "abcdefgh"[: draw.randrange(9)]]
    verdicts = {(a, b): draw.choice(("apart", "same", "open")) for a in names for b in names if a < b}

    def close(name: str, verdict: str) -> tuple[str, ...]:
        return tuple(other for other in names if verdicts.get((min(name, other), max(name, other))) == verdict)

    are_close = draw.random() < 0.5

    def figure() -> float | None:
        if are_close:
            return draw.uniform(0.97, 1.03)
        return draw.choice((None, 0.5, 1.0, 1.02, draw.uniform(0.01, 100), draw.uniform(0.9, 1.1)))

    def size() -> int | None:
        if are_close:
            return 8 * GB + draw.randrange(2**26)
        return draw.choice((None, *(draw.randrange(1, 30 * GB) for _ in range(2)), 8 * GB, 8 * GB + draw.randrange(2**30)))

    baseline = draw.choice(names or [""])
    losses = (None, 0.0, 0.0, 0.0, 0.01, 0.05, 1.7)
    cells = [
        Option(
            *(name, figure(), figure(), figure(), size(), draw.random() < 0.5, figure(), draw.choice(losses)),
            *(close(name, "same"), close(name, "open"), draw.random() < 0.7, draw.random() < 0.5, name == baseline),
        )
        for name in names
    ]
    draw.shuffle(cells)
    limits = (None, 8.0 * GB, draw.uniform(0, 30) * GB)
    return cells, Ask(
        draw.choice(tuple(GOALS)), draw.choice(limits), draw.choice(losses), draw.choice((0.0, 1.0, 1000.0)), draw.choice((None, 2.5))
    )


def test_the_page_advises_what_the_command_does_on_500_result_sets(browser):
    draw = random.Random(23)
    sets = [generated(draw) for _ in range(500)]
    asked = [{"cells": [asdict(cell) for cell in cells], "ask": asdict(ask)} for cells, ask in sets]
    found = json.loads(
        browser.execute_script(
            "return JSON.stringify(JSON.parse(arguments[0]).map(({ cells, ask }) => advise(cells, ask)))", json.dumps(asked)
        )
    )
    wanted = [json.loads(json.dumps(advise(cells, ask).as_json())) for cells, ask in sets]
    assert found == wanted
    # What was compared is worth comparing.
    for one in GOALS:
        assert sum(ask.goal == one and found["choice"] is not None for (_, ask), found in zip(sets, wanted, strict=True)) > 30, one
    assert sum(one["choice"] is not None for one in wanted) > 200
    for part in ("ties", "open", "better", "doubtful"):
        assert sum(bool(one[part]) for one in wanted) > 20, part
    equals = [[replace(cell, is_baseline=False) for cell in cells] for cells, _ in sets]
    left = [advise(cells, ask).choice for cells, (_, ask) in zip(equals, sets, strict=True)]
    stays = [ask.goal for (_, ask), one, other in zip(sets, wanted, left, strict=True) if one["choice"] != other]
    assert sum(goal in BY_SPEED for goal in stays) > 10, "the baseline stays where something is hardly ahead"
    assert stays.count("memory") > 1


def test_the_form_chooses_what_the_command_does_whatever_is_asked(browser, grid):
    """From the records of cells to the page and through its form: every group, goal, card, loss and number of starts that it offers."""
    from report_data import tables_of
    from speedgrid.report.advice import CARDS_GB
    from speedgrid.report.advised import guide_of
    from speedgrid.report.tables import groups

    told = json.loads(
        browser.execute_script("""
        const form = document.getElementById('guide'), { group, goal, cards, loss, starts } = form.elements, found = [];
        const values = (list) => [...list.options].map((option) => option.value), answer = document.getElementById('guide-answer');
        const count = (part) => answer.querySelector(`[data-part=${part}]`).children.length;
        for (group.selectedIndex of values(group).keys()) for (goal.value of values(goal)) for (loss.value of values(loss))
          for (starts.value of values(starts)) for (cards.value = 0; ; cards.value = Number(cards.value) + 1) {
            form.dispatchEvent(new Event('input'));
            const asked = [group.selectedIndex, goal.value, loss.value, starts.value, cards.value];
            found.push([asked, answer.dataset.choice, count('ties'), count('open'), count('better')]);
            if (cards.value === cards.max) break;
          }
        return JSON.stringify(found);
        """)
    )
    summary, _, replies = tables_of(grid)
    guides = [guide_of(group.records, STUDY, {}) for group in groups(summary, replies)]
    assert len(told) == len(guides) * len(GOALS) * 6 * 5 * (len(CARDS_GB) + 1)
    for (group, goal, loss, starts, card), *said in told:
        budget = usable(CARDS_GB[int(card)]) if int(card) < len(CARDS_GB) else None
        guide = guides[int(group)]
        advice = guide.advise(guide.priced(Ask(goal, budget, float(loss) if loss else None, float(starts))))
        wanted = [advice.choice or "", len(advice.ties), len(advice.open), len(advice.better)]
        assert said == wanted, (group, goal, loss, starts, card)
    assert len({choice for _, choice, *_ in told}) > 4, "what is asked decides"


def choose(browser, **fields) -> str:
    """Fill in the form and read the answer."""
    browser.execute_script(
        """
        const form = document.getElementById('guide');
        for (const [name, value] of Object.entries(arguments[0]))
          form.elements[name][name === 'group' ? 'selectedIndex' : 'value'] = value;
        form.dispatchEvent(new Event('input', { bubbles: true }));
        """,
        fields,
    )
    return browser.execute_script("return document.getElementById('guide-answer').innerText")


def test_the_form_changes_what_is_advised(browser):
    assert "Take torch.compile (static cache): " in choose(browser, group=0, goal="latency", loss=0, starts=0, cards=9)
    # A new process for every reply pays for compiling each time.
    assert "Take torch.compile" not in choose(browser, group=0, goal="latency", loss=0, starts=1000, cards=9)
    assert "Take no" not in choose(browser, group=0, goal="memory", loss=0, starts=0, cards=9)
    lossless = choose(browser, group=1, goal="throughput", loss=0, starts=0, cards=9)
    assert "Pruned by 50 %" in lossless.partition("beyond your limits")[2]
    assert "for +174\u00a0% bits per byte" in lossless
    assert choose(browser, group=1, goal="throughput", loss="", starts=0, cards=9).startswith("Take Pruned by 50 %")


def test_a_choice_that_is_surely_slower_is_said_to_be(browser):
    asked = {"group": 0, "loss": 0, "starts": 1000, "cards": 9}
    assert "Once started, it is slower than the baseline." in choose(browser, goal="latency", **asked).partition("\n")[0]
    assert "Once started" not in choose(browser, goal="memory", **asked)
    assert "than the baseline" not in choose(browser, **(asked | {"goal": "latency", "starts": 0})).partition("\n")[0]


def test_where_starts_count_no_speedup_without_them_stands_beside_a_figure(browser):
    for goal in BY_SPEED:
        asked = {"group": 0, "goal": goal, "loss": "", "cards": 9, "price": ""}
        assert "×" in choose(browser, starts=0, **asked)
        assert "×" not in choose(browser, starts=1000, **asked), goal


def test_a_card_and_a_price_are_limits_of_the_answer(browser):
    assert "Nothing that was measured" not in choose(browser, group=1, goal="latency", loss=0, starts=0, cards=0)
    browser.execute_script("document.getElementById('guide').elements.cards.value = 0")
    assert "8 GB" in browser.execute_script("return document.getElementById('guide').innerText")
    assert "device hours per million tokens" in choose(browser, group=1, goal="money", loss=0, starts=0, cards=9, price="")
    assert "device hours" not in choose(browser, group=1, goal="money", loss=0, starts=0, cards=9, price="2.5")
    # The study's own price holds until another one is typed.
    assert "per million tokens at 4 an hour" in choose(browser, group=0, goal="money", loss=0, starts=0, cards=9, price="")
    assert "per million tokens at 2.5 an hour" in choose(browser, group=0, goal="money", loss=0, starts=0, cards=9, price="2.5")
    choose(browser, price="")


def test_the_advice_has_code_a_command_and_what_was_not_measured(browser):
    said = choose(browser, group=0, goal="latency", loss=0, starts=0, cards=9)
    assert "compile_config=compiled" in said
    assert "./speedgrid run -- results/local/generate/stdlib-llama/torch_compile/measure.parquet" in said
    assert "bitsandbytes NF4 (a package or tool is missing)" in said


def test_the_command_line_asks_what_the_form_asks(browser):
    """It was one text, whatever the form said, and named no results."""
    from speedgrid import commands
    from speedgrid.report.advice import CARDS_GB

    parser = commands.one("advise")

    def asked(**fields):
        choose(browser, **fields)
        line = browser.execute_script("return document.querySelector('[data-part=advise]').textContent")
        program, name, *words = shlex.split(line)
        assert (program, name) == (commands.program(), "advise")
        return parser.parse_args(words)

    first = asked(group=0, goal="latency", loss=0, starts=0, cards=9, price="")
    assert (first.goal, first.vram, first.max_loss, first.starts, first.price) == ("latency", None, 0.0, 0.0, None)
    assert (first.gpu, first.task, first.model, first.results) == ("local", "generate", "stdlib-llama", None)
    other = asked(group=1, goal="money", loss=0.03, starts=100, cards=2, price="2.5")
    assert (other.goal, other.vram, other.max_loss, other.starts, other.price) == ("money", CARDS_GB[2], 0.03, 100.0, 2.5)
    assert (other.gpu, other.model) == ("h200", "llama-3b")
    assert asked(group=1, goal="memory", loss="", starts=0, cards=9, price="").max_loss is None


def test_at_a_price_that_is_none_there_is_no_answer_but_what_is_allowed(browser):
    """A price of 0 or less was passed over, and the study's taken, or device hours told."""
    for goal in ("money", "latency"):
        for price in ("0", "-2"):
            said = choose(browser, group=0, goal=goal, loss=0, starts=0, cards=9, price=price)
            assert said.strip() == (
                "No answer at this price: it must be a number above 0, such as 2.5."
                " Left empty, it is the study's own, or device hours are told where that has none."
            ), (goal, price)
        for price in ("0.4", ""):
            said = choose(browser, group=0, goal=goal, loss=0, starts=0, cards=9, price=price)
            assert said.startswith("Take "), (goal, price)
            assert "No answer" not in said


def test_an_address_has_the_question_and_opens_with_its_answer(browser, page):
    shown = "return ['guide', 'filters'].map((id) => [...new FormData(document.getElementById(id))].join())"
    fields = {"group": 1, "goal": "money", "loss": "", "starts": 100, "cards": 3, "price": "2.5"}
    answer = choose(browser, **fields)
    browser.execute_script(
        """
        const { elements } = document.getElementById('filters');
        [elements.q.value, elements.columns.value] = ['compile & a=b', 'quality'];
        elements.columns.dispatchEvent(new Event('input', { bubbles: true }));
        """
    )
    before, address = browser.execute_script(shown), browser.execute_script("return location.href")
    browser.get("about:blank")
    browser.get(address)
    assert browser.execute_script("return document.getElementById('guide-answer').innerText") == answer
    assert browser.execute_script(shown) == before
    until(browser, lambda: 0 <= browser.execute_script("return document.getElementById('choose').getBoundingClientRect().top") < 100)
    # What the page opens with is not in it, and a name that the page does not have is none.
    first = {"group": 0, "goal": "latency", "loss": 0, "starts": 0, "cards": 9, "price": ""}
    choose(browser, **first)
    browser.execute_script("document.querySelector('#filters [type=reset]').click()")
    assert browser.execute_async_script("setTimeout(() => arguments[0](location.hash), 50)") == ""
    browser.get("about:blank")
    browser.get(f"{page.as_uri()}#goal=memory&group=of-another-page&unknown=1")
    assert browser.execute_script("return document.getElementById('guide').elements.group.selectedIndex") == 0
    said = browser.execute_script("return document.getElementById('guide-answer').innerText")
    assert said == choose(browser, **first | {"goal": "memory"})


def test_a_page_in_japanese_advises_in_japanese(page, tmp_path):
    from browsers import opened
    from report_data import page_of
    from speedgrid.report.rendering import read_parts

    path = tmp_path / "report.html"
    study = made.study() | {"language": "ja", "techniques": {}}
    path.write_text(page_of(made.write_group(tmp_path), study, replace(read_parts(), vega=WITHOUT_CHARTS)), encoding="utf-8")
    with opened(path, tmp_path / "profile", 1280, "light") as driver:
        said = choose(driver, group=0, goal="latency", loss=0, starts=0, cards=9)
        assert said.startswith("torch.compile (static cache) が最適です：1 応答あたり ")
        assert "速度はベースラインの 1.9" in said.partition("\n")[0]
        assert "これを測定したコマンド" in said
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_hostile_names_stay_text(browser):
    said = choose(browser, group=1, goal="latency", loss="", starts=0, cards=9)
    assert HOSTILE in said
    assert browser.execute_script("return [document.images.length, document.title]") == [
        0,
        "Speed-up techniques on this machine · speedgrid",
    ]


def test_nothing_was_written_to_the_console(browser):
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
