"""What a study may say in YAML, and every way in which YAML would have said something else than what stands there."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import strict_yaml, study
from speedgrid.strict_yaml import Refused

import studies


def refusal(text: str) -> str:
    with pytest.raises(Refused) as caught:
        strict_yaml.parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", sorted([*studies.ROOT.glob("*.yaml"), *studies.ROOT.glob("*/*.yaml"), *studies.ROOT.glob("*/*/*.yaml")]))
def test_the_projects_own_files_are_read_as_yaml_reads_them(file):
    if ".snakemake" not in file.parts and "results" not in file.parts:
        assert strict_yaml.parse(file.read_text(encoding="utf-8")) == yaml.safe_load(file.read_text(encoding="utf-8"))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)


@given(plain, st.booleans())
def test_what_yaml_writes_is_read_again(value, flow):
    assert strict_yaml.parse(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)) == value


@given(st.text(max_size=40) | st.text("&*!<>|{}[]:-?#'\"%@ \n\ta1.e~=", max_size=40))
def test_any_text_is_read_as_yaml_reads_it_or_refused(text):
    try:
        value = strict_yaml.parse(text)
    except Refused as error:
        assert str(error)
    else:
        assert value == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is there twice"),
        ("{a: 1, a: 2}", "the key 'a' is there twice"),
        ("a: &x [*x]", "*x lies inside of what it stands for"),
        ("&a {b: *a}", "*a lies inside of what it stands for"),
        ("a: *b", "*b stands for nothing"),
        ("7: seven", "the key 7 is no text for YAML; put it in quotes"),
        ("on: 1", "the key on is no text"),
        ("? [a, b]\n: 1", "a key is text, and this one is a list"),
        ("a: 2024-01-01", "YAML reads '2024-01-01' as a date; put it in quotes"),
        ("a: 2024-01-01T00:00:00Z", "as a date"),
        ("a: <<", "YAML reads '<<' as a sign of YAML"),
        ("- <<", "as a sign of YAML"),
        ("a: !!set {x, y}", "the tag !!set has no meaning here"),
        ("a: !!binary aGk=", "the tag !!binary has no meaning here"),
        ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system has no meaning here"),
        ("a: !!str 5", "the tag !!str has no meaning here"),
        ("a: !mine 5", "the tag !mine has no meaning here"),
        ("a: 12:30", "as a number in base 60"),
        ("a: 12:30.5", "as a number in base 60"),
        ("a: 0777", "as a number in base 8"),
        ("a: .nan", "'.nan' is no finite number"),
        ("a: -.INF", "'-.INF' is no finite number"),
        ("a: 1.0e+999", "'1.0e+999' is no finite number"),
        ("a: " + "9" * 5000, "is too large a number"),
        ("a: -9007199254740993", "is too large a number"),
        ("a: 0x" + "f" * 5000, "is too large a number"),
        ('a: "\\0"', "U+0000"),
        ('a: "\\ud800"', "U+D800"),
        ('"\\e[2J": 1', "U+001B"),
        ("a: \x00", "U+0000"),
        ("--- 1\n--- 2", "a second document begins"),
        ("a:\n\t- b", "line 2, column 1: a tab, where YAML takes spaces alone"),
        ("prompt: Say: hello", "line 1, column 12: a second `: ` in one value"),
        ("a: [1, 2", "the file ends inside of a bracket"),
        ("[" * 3000, "more than 40 deep"),
        ("a: " + "x" * (strict_yaml.MOST_BYTES + 1), "has more than 8 MiB"),
        ("d: {<<: 3}", "<< takes keys and values"),
        ("__use_yte__: true", "the key __use_yte__ makes a template of the file, whose Python would be run"),
    ],
)
def test_what_yaml_would_change_or_pass_over_is_refused_with_its_line(text, words):
    line = refusal(text)
    assert words in line
    assert "line " in line or "MiB" in line


def test_an_alias_bomb_is_refused_before_it_is_made():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    assert "more than 100,000 values" in refusal(bomb)
    of_keys = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}\n" for n in range(1, 40))
    assert "more than 100,000 values" in refusal(of_keys)
    tower = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))
    assert "more than 40 deep" in refusal(tower)


def test_aliases_and_merges_that_a_person_writes_are_read():
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, y: 9}\ntwo: {<<: [*b, *m]}\nlist: [*b, *b]"
    read = strict_yaml.parse(text)
    assert read == yaml.safe_load(text)
    read["list"][0]["x"] = "changed"
    assert read["list"][1]["x"] == read["base"]["x"] == 1


def test_there_is_one_zero():
    assert str(strict_yaml.parse("[-0.0, -0, 0.0]")) == "[0.0, 0, 0.0]"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a: caf\xe9\n", "my.yaml: line 1: is not UTF-8"), (b"a: 1\na: 2\n", "my.yaml: line 2: the key 'a' is there twice")],
)
def test_a_file_that_cannot_be_read_is_one_line_with_its_name(tmp_path, content, words):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(study.StudyError, match=words):
        study.read(tmp_path / "f", "my.yaml")
    with pytest.raises(study.StudyError, match=r"my\.yaml: cannot be read: Is a directory"):
        study.read(tmp_path, "my.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert study.read(tmp_path / "f", "my.yaml") == {"a": 1}
