"""Pages that load the code of their charts from one file: what changes in them, and which are refused."""

import re
from pathlib import Path

import pytest
import records_factory as made
import share_charts_code as sharing
from markupsafe import Markup
from report_data import page_of, quick_parts
from speedgrid.report import page

CODE = quick_parts().vega


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    return page_of(made.write_group(tmp_path_factory.mktemp("page")), made.study())


@pytest.fixture
def published(tmp_path, html) -> Path:
    path = tmp_path / "h200" / "study" / "report.html"
    path.parent.mkdir(parents=True)
    path.write_bytes(html.encode())
    return path


def policy_of(html: str) -> str:
    return str(Markup(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]).unescape())


def test_the_reference_and_the_policy_change_and_nothing_else(tmp_path, published, html):
    assert sharing.share(tmp_path / "vega.js", [published]) == [published]
    assert (tmp_path / "vega.js").read_text(encoding="utf-8") == CODE
    changed = published.read_bytes().decode()
    before, _, after = html.partition(f"<script>{CODE}</script>")
    loaded = re.search(r'<script src="\.\./\.\./vega\.js"></script>\n<script>([^<]*)</script>', changed)
    own = page.script_source(CODE)
    assert policy_of(changed) == policy_of(html).replace(own, f"{own} 'self' file: {page.script_source(loaded[1])}")
    assert changed.replace(loaded[0], "").replace(_meta(changed), "") == (before + after).replace(_meta(html), "")
    assert changed.index(loaded[0]) == changed.index("<script src=") < changed.rindex("<script>")


def _meta(html: str) -> str:
    return re.search(r"<meta http-equiv=[^>]*>", html)[0]


def test_a_page_that_has_the_reference_stays_as_it_is(tmp_path, published):
    sharing.share(tmp_path / "vega.js", [published])
    first = published.read_bytes()
    assert sharing.share(tmp_path / "vega.js", [published]) == []
    assert published.read_bytes() == first


def test_an_address_is_no_markup_and_no_code(tmp_path, published):
    named = tmp_path / "a \"b'</script>" / "v#1.js"
    sharing.share(named, [published])
    changed = published.read_bytes().decode()
    assert '<script src="../../a%20%22b%27%3C/script%3E/v%231.js"></script>' in changed
    assert named.read_text(encoding="utf-8") == CODE
    assert changed.count("</script>") == changed.count("<script")


def test_other_code_than_the_file_holds_is_refused_in_one_line_and_nothing_is_written(tmp_path, published, html, monkeypatch, capsys):
    newer = tmp_path / "newer.html"
    newer.write_text(html.replace(CODE, "/* Vega 7 */").replace(*_sources("/* Vega 7 */")), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["share_charts_code", str(tmp_path / "vega.js"), str(published), str(newer)])
    with pytest.raises(SystemExit) as ended:
        sharing.main()
    assert str(ended.value) == (
        f"share_charts_code: {newer}: its charts are drawn by other code than {tmp_path}/vega.js holds, of another version; name another"
        " file for it"
    )
    assert published.read_bytes().decode() == html
    assert not (tmp_path / "vega.js").exists()


def _sources(code: str) -> tuple[str, str]:
    return sharing.in_page(page.script_source(CODE)), sharing.in_page(page.script_source(code))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("<p>a page of somebody else</p>", "not a page that speedgrid wrote"),
        ("<script>1</script><script>2</script>", "not a page that speedgrid wrote"),
    ],
)
def test_what_is_no_page_of_speedgrid_is_refused(tmp_path, content, why):
    (tmp_path / "report.html").write_text(content, encoding="utf-8")
    with pytest.raises(sharing.NotShared, match=why):
        sharing.share(tmp_path / "vega.js", [tmp_path / "report.html"])


def test_a_page_that_loads_another_file_is_refused(tmp_path, published):
    sharing.share(tmp_path / "vega.js", [published])
    with pytest.raises(sharing.NotShared, match="another file than"):
        sharing.share(tmp_path / "other.js", [published])
