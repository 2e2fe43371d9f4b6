"""Languages of the page: every text has its translation with the same places, nothing that nobody looks up has one, and what a page in
another language says is in it."""

import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import unescape

import pytest
import records_factory as made
import texts
from report_data import page_of, quick_parts
from speedgrid import comparison, planning
from speedgrid.comparison import Results
from speedgrid.report import collect, language, page, tables, units
from speedgrid.report.phrases import in_words
from speedgrid.study import StudyError, validate
from test_work import step, write_cells

import studies

LANGUAGES = quick_parts().languages
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
# What is the same in both: names, units and terms of the field.
AS_IN_ENGLISH = {"CPU", "CUDA", "GPU", "MBU", "MFU", "Python", "TPOT", "TTFT", "import", "p50", "p95", "p99", "bits per byte"}
AS_IN_ENGLISH |= {"FlashAttention-2", "INT4 GPTQ/AWQ", "INT8", "torch.compile"}
AS_IN_ENGLISH |= {
    "B / A",
    "Bits per byte",
    "CPU stolen",
    "Compute capability",
    "Decode",
    "Prefill",
    "decode",
    "prefill",
    "{} bits per byte",
}


def places(text: str) -> list[str]:
    """The places of a text by name or number, those without one counted as str.format does."""
    fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    return sorted(field or str(number) for number, field in enumerate(fields))


def test_there_is_japanese():
    assert "ja" in LANGUAGES


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_text_has_its_translation_and_nothing_else_has(code):
    wanted, there = texts.every(), set(LANGUAGES[code].texts)
    assert len(wanted) > 500
    assert sorted(wanted - there) == [], f"without a translation in report/languages/{code}.yaml"
    assert sorted(there - wanted) == [], f"nobody looks these up: remove them from report/languages/{code}.yaml"


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_texts_stand_in_the_order_of_their_english(code):
    """So that one finds what is there, and nobody appends what is there already."""
    there = list(LANGUAGES[code].texts)
    assert [text for text, ordered in zip(there, sorted(there), strict=True) if text != ordered][:1] == []


# Counts of which there is never one: said of several alone, or beside another form for one.
NEVER_ONE = {
    "All {count} packages",
    "Measured under {} host names: {}. Where these are several machines, what differs between them is a part of the speed-ups.",
    "{count} combinations of model, device and experiment. The table of speed-ups leads to the answer for each.",
    "{gpu} is {count} machines, by their host names {names}: where groups were measured on different ones, the machine is a part of what"
    " differs between them.",
    "{} of {} runs",
    "{} of {} runs of {} did not end as the first did ({}); no figure includes them.",
    "{} others {} together",
    "{} packages",
    "{} studies on one page",
    "{} to {} more runs",
    # Of the tokens, which are several where a reply ended early.
    "{} {} of {} tokens in {} reply",
    "{} {} of {} tokens in {} replies",
}


def test_of_one_thing_no_text_says_several():
    """The page said `1 measured cells`: a text has a twin for one, or a form without a number beside the word."""
    counted = re.compile(
        r"\{\w*\} (?:more |measured |other |random |device |host )?(cells|requests|replies|runs|packages|combinations|others|starts|tokens"
        r"|layers|items|times|machines|studies|names)\b(?! like| on average| that of| what it)"
    )
    every = texts.every()
    # A twin differs in that word, in the verb, and in whether the one is written out.
    twins = {re.sub(r"\b1\b", "{}", text) for text in every}

    def has_twin(text: str, noun: str) -> bool:
        one = {"replies": "reply", "studies": "study"}.get(noun, noun[:-1])
        single = re.sub(rf"\b{noun}\b", one, text)
        return bool({single, single.replace(" are ", " is ")} & twins)

    found = {text for text in every for noun in counted.findall(text) if not has_twin(text, noun)}
    assert found == NEVER_ONE


def test_the_style_sheet_writes_no_words():
    """They would be English in every language: what the filter leaves out was."""
    written = [text for value in re.findall(r"content:([^;}]*)", quick_parts().style) for text in re.findall(r'"([^"]*)"', value)]
    assert " ↑" in written
    assert [text for text in written if re.search("[A-Za-z]{2}", text)] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_translation_has_the_places_and_tags_of_its_text(code):
    for text, said in LANGUAGES[code].texts.items():
        assert places(said) == places(text), text
        for tag in ("<strong>", "<code>", "<em>", "<sup>", "<a href='#"):
            assert said.count(tag) == text.count(tag), text
        assert re.findall(r"href='(#[\w-]+)'", said) == re.findall(r"href='(#[\w-]+)'", text)
        assert set(re.findall(r"<code>(.*?)</code>", said)) == set(re.findall(r"<code>(.*?)</code>", text)), text


def test_japanese_is_not_english():
    same = {text for text, said in LANGUAGES["ja"].texts.items() if said == text or not (JAPANESE.search(said) or "{" in said)}
    assert same - AS_IN_ENGLISH - {" and ", ", "} == set()


class Asked(dict):
    """A catalogue's texts that notes what it has not."""

    def __init__(self, known):
        super().__init__(known)
        self.missing = set()

    def get(self, text, default=None):
        if text not in self:
            self.missing.add(text)
        return super().get(text, default)


@pytest.fixture(scope="module")
def japanese(tmp_path_factory):
    """A page in Japanese of two groups with all sorts of cells, and what it looked up in vain."""
    folder = tmp_path_factory.mktemp("japanese")
    pruned = made.Made("prune_50", "Pruned", "compression", 190.0, peak=500, bits_per_byte=5.2, lossless=False, again=(189.0, 191.0))
    cells = [replace(cell, again=(cell.speed * 1.01,)) if cell.status == "ok" else cell for cell in made.DEFAULT_CELLS]
    gpu = {"gpu": "h200", "model": "llama-3b", "machine": made.GPU_MACHINE, "parameters": 3_210_000_000}
    grid = [*made.write_group(folder, [*cells, pruned]), *made.write_group(folder, cells, **gpu)]
    grid = [cell | {"price_per_hour": 2.5} for cell in grid]
    known = LANGUAGES["ja"]
    asked = Asked(known.texts)
    parts = replace(quick_parts(), languages={"ja": replace(known, texts=asked)})
    study = made.study(models=("stdlib-llama", "llama-3b")) | {"language": "ja", "techniques": {}}
    return page_of(grid, study, parts), asked.missing


def test_a_page_in_japanese_asks_for_nothing_that_has_no_translation(japanese):
    _, missing = japanese
    # Axes are looked up as they are in the end: those with a unit or a name in them were put together in Japanese.
    assert {
        text
        for text in missing - set(OUTSIDE)
        if re.search("[A-Za-z]", text) and not JAPANESE.search(text) and not re.search(r"\((ms|s|GiB|MiB)\)|token/s|J/token", text)
    } == set()


def test_a_page_in_japanese_speaks_japanese(japanese):
    html, _ = japanese
    assert '<html lang="ja">' in html
    assert english(html, OUTSIDE) == []
    for words in (
        "結論",
        "条件に合わせて選ぶ",
        "測定できる品質低下のない手法では",
        "各数値の意味",
        "に対する高速化率",
        "100 万トークンあたりの料金",
    ):
        assert words in html


def test_what_a_job_wrote_down_is_marked_as_english_on_a_page_in_japanese_and_nowhere_else(japanese, tmp_path):
    html, _ = japanese
    reasons = [cell.reason for cell in made.DEFAULT_CELLS if cell.reason]
    assert reasons
    marked = set(re.findall(r'<span lang="en">(.*?)</span>', html))
    for reason in reasons:
        # In the table, and in the list of what could not run or the evidence.
        assert html.count(f'<span lang="en">{units.coded(reason)}</span>') >= 2, reason
    # What is not in such a mark, but for the tooltips of charts, is none of them.
    shown = re.sub(r'<script\b.*?</script>|<span lang="en">.*?</span>', "", html, flags=re.DOTALL)
    assert [reason for reason in reasons if str(units.coded(reason)) in shown] == []
    assert not [said for said in marked if JAPANESE.search(said)]
    for words in ("依存不足", "有効にならず"):
        assert words in shown
    english_page = page_of(made.write_group(tmp_path), made.study(), quick_parts())
    assert 'lang="en">' in english_page.partition("<head>")[0]
    assert 'lang="en"' not in english_page.partition("<body>")[2]


# Three words in a row, in a text that may be Japanese but for them; units and terms of the field are none.
ENGLISH = re.compile(r"(?:\b[A-Za-z]?[a-z]+[ ,]+){2,}[a-z]{2,}\b")
TERMS = ("bits per byte", "token/s", "image/s", "Williams, Waterman and Patterson")
# What names come from outside: of techniques and models, of files and commands, of what was published.
NAMES = [cell.label for cell in made.DEFAULT_CELLS] + [cell.technique for cell in made.DEFAULT_CELLS]


# Of the made-up study: its title, what it says of its techniques, why cells failed (of a reason the words around its code), and a task.
OUTSIDE = [made.study()["title"], "Pruned", "lm-eval has no task", "o compiled code ran:", "called the original module"]
OUTSIDE += [made.study()["techniques"][cell.technique]["summary"] for cell in made.DEFAULT_CELLS]
OUTSIDE += [cell.reason for cell in made.DEFAULT_CELLS if cell.reason]


def english(html: str, outside: Sequence[str] = ()) -> list[str]:
    """What of a page's texts, of its labels for who does not see it, and of its charts with their tooltips is English: three words or more
    in a row that nobody translated. `outside` are texts that come from elsewhere."""
    shown = re.sub(r"<(script|style|pre|code)\b.*?</\1>", "·", html, flags=re.DOTALL)
    said = re.findall(r">([^<>]+)<", shown) + re.findall(r'(?:aria-label|title|placeholder|data-words)="([^"]*)"', shown)
    said += list(texts_of(json.loads(re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)[1])))
    said += list(json.loads(re.search(r'id="index">(.*?)</script>', html, re.DOTALL)[1])["heads"].values())
    found = []
    for text in dict.fromkeys(" ".join(unescape(text).split()) for text in said):
        left = text
        for known in sorted((*outside, *TERMS, *NAMES), key=len, reverse=True):
            left = left.replace(known, "·")
        found += [text] if ENGLISH.search(left) else []
    return found


def texts_of(value: object) -> Iterator[str]:
    """The texts that a chart shows: those of its tables, and the titles of its axes and tooltips."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "title" and isinstance(inner, str):
                yield inner
            elif name not in ("config", "expr", "test", "filter", "labelExpr"):
                yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from ([inner] if isinstance(inner, str) else texts_of(inner))


def test_what_is_english_on_a_page_is_seen_wherever_it_stands():
    """So that the tests below cannot pass for a page that is English."""
    charts = {"parts": [{"title": "speed of the reply"}], "charts": {"a": {"datasets": {"data-0": {"note": ["stopped by the user"]}}}}}
    page = (
        '<p>Nothing was measured here</p><p>結果: nothing was measured</p><i aria-label="how sure it is"></i>'
        f'<script id="charts">{json.dumps(charts)}</script><script id="index">{{"heads": {{"low": "from its lower end"}}}}</script>'
    )
    assert english(page) == [
        *("Nothing was measured here", "結果: nothing was measured", "how sure it is", "speed of the reply", "stopped by the user"),
        "from its lower end",
    ]
    assert english(page.replace("nothing was measured", "bits per byte")) != english(page)


def test_a_page_in_japanese_of_training_and_of_what_others_published_is_japanese(tmp_path):
    losses = [2.0 - 0.05 * number for number in range(20)]
    cells = {name: [step(n, seconds, loss) for n, loss in enumerate(losses, 1)] for name, seconds in (("plain", 0.4), ("fast", 0.05))}
    grid = write_cells(tmp_path, cells)
    told = [collect.read_cell(cell, made.JOBS) for cell in grid]
    summary, runs, replies = tables.summary_rows(told), tables.run_rows(told), [row for cell in told for row in cell.measure.rows]
    study = made.study(cells=[made.Made(name, name.title()) for name in cells]) | {"language": "ja"}
    study["experiments"] = {"generate": {"workload": "train", "batch_size": 8, "sampling": {}, "published": "s"}}
    others = "study,device,technique,point,column,value,note\ns,GPU X,plain,,latency_mean_s,0.1,\ns,GPU X,fast,,latency_mean_s,0.025,\n"
    parts = replace(quick_parts(), published=others)
    older = [row | {name: row[name] * 2 for name in ("rate", "rate_low", "rate_high")} for row in summary]
    compared = comparison.compare(Results("last-month", older, runs), Results("now", summary, runs))
    html = page.render(parts, study, summary, runs, replies, compared)
    assert english(html, [*OUTSIDE, *(f"What {name.title()} changes." for name in cells)]) == []
    for words in ("両方とも速い", "に対する高速化率。大きいほど速い", "ありえない値", "2 遅い"):
        assert words in html


def test_the_scripts_of_a_page_have_their_texts(japanese):
    html, _ = japanese
    told = json.loads(re.search(r'id="texts">(.*?)</script>', html, re.DOTALL)[1])
    assert set(told) == texts.of_scripts()
    assert told["any"] == "指定なし"


def test_an_english_page_carries_no_translations(tmp_path):
    html = page_of(made.write_group(tmp_path), made.study())
    assert '<html lang="en">' in html
    assert '<script type="application/json" id="texts">{}</script>' in html
    assert not JAPANESE.search(html)


def test_large_numbers_are_counted_in_ten_thousands():
    assert [in_words(count) for count in (5_140_000, 1.35e8, 8.03e9, 900)] == [
        "5.1 million",
        "135 million",
        "8.0 billion",
        "900",
    ]
    with language.spoken(LANGUAGES["ja"]):
        assert [in_words(count) for count in (5_140_000, 1.35e8, 8.03e9, 1e12, 900)] == ["514万", "1.4億", "80.3億", "1兆", "900"]
        assert units.listed(["a", "b", "c"]) == "a、b、c"
        assert units.duration(720) == "12 分"
    assert units.duration(720) == "12 min"


def test_the_language_of_a_study_makes_the_page_anew_and_nothing_else():
    study = validate(studies.small(), studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    both = [json.loads(planning.Grid(study | {"language": code}, registry, "my.yaml", has_gpu=False).as_json()) for code in ("en", "ja")]
    assert both[0]["jobs"] == both[1]["jobs"]
    assert both[0]["study"]["study_sha256"] == both[1]["study"]["study_sha256"]
    assert [told["study"]["language"] for told in both] == ["en", "ja"]


def test_a_language_without_a_file_is_refused():
    from speedgrid.planning.checks import _check_language

    _check_language("ja", planning.ROOT, "my.yaml: language")
    with pytest.raises(StudyError, match=r"my\.yaml: language: 'tlh' is unknown; allowed are en, ja, and others with a file in"):
        _check_language("tlh", planning.ROOT, "my.yaml: language")
