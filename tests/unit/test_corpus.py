"""The text that is on every machine."""

import pytest
from speedgrid import corpus
from speedgrid.outcomes import Unsupported


def test_training_and_held_out_files_are_apart():
    held_out = {text for _, text in corpus.held_out_text(10**9)}
    training = set(corpus.training_text(10**9))
    assert len(training) > 100
    assert held_out
    assert not {text for text in held_out if len(text) > 200} & training


@pytest.mark.parametrize("limit", [300, 5000, 70_000])
def test_no_more_bytes_than_asked_for(limit):
    for texts in (corpus.training_text(limit), [text for _, text in corpus.held_out_text(limit)]):
        size = sum(len(text.encode()) for text in texts)
        assert limit - 4 < size <= limit


def test_the_same_text_every_time():
    assert corpus.fingerprint(corpus.training_text(50_000)) == corpus.fingerprint(corpus.training_text(50_000))
    assert corpus.fingerprint(["a", "b"]) != corpus.fingerprint(["ab"])


def test_a_text_file_is_cut_between_characters(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("日本語" * 10, encoding="utf-8")
    [(name, text)] = corpus.text_file(path, 7)
    assert (name, text) == ("t.txt", "日本")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("ein Text", encoding="utf-8-sig")
    assert corpus.text_file(path, 100) == [("t.txt", "ein Text")]


def test_calibration_text_is_training_text_or_a_file(tmp_path):
    held_out = {text for _, text in corpus.held_out_text(100_000)}
    assert not held_out & set(corpus.calibration_text({"text": "stdlib"}))
    (tmp_path / "mine.txt").write_text("ein Text", encoding="utf-8")
    assert corpus.calibration_text({"text": str(tmp_path / "mine.txt")}) == ["ein Text"]
    with pytest.raises(Unsupported, match=r"calibration text .*none\.txt: .*No such file"):
        corpus.calibration_text({"text": str(tmp_path / "none.txt")})
