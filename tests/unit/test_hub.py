"""The hub's address: what of it may be shown."""

import pytest
from speedgrid import hub, lock, planning
from speedgrid.study import StudyError

SECRET = "tokenof:someone"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://{SECRET}@127.0.0.1:9/a", "http://127.0.0.1:9/a"),
        (
            f"cannot open https://{SECRET}@hub.example/x, nor https://hub.example",
            "cannot open https://hub.example/x, nor https://hub.example",
        ),
        ("mail me@example.org about https://huggingface.co/a", "mail me@example.org about https://huggingface.co/a"),
    ],
)
def test_users_and_passwords_are_left_out(text, shown):
    assert hub.shown(text) == shown


def test_no_message_of_planning_or_of_a_lock_holds_a_password(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", f"http://{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for asked in (lambda: planning._check_hub("s.yaml: models.m.hub", "a/b"), lambda: lock.commit_of("a/b", "main")):
        with pytest.raises(StudyError, match=r"127\.0\.0\.1:9") as said:
            asked()
        assert SECRET.partition(":")[2] not in str(said.value)
        assert "@" not in str(said.value)
