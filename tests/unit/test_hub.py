"""The hub's address: what of it may be shown."""

import base64

import pytest
from speedgrid import hub, lock, survey
from speedgrid.planning import checks
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
        (f"http://{SECRET}@{SECRET}@127.0.0.1:9/a", "http://127.0.0.1:9/a"),
        ("mail me@example.org about https://huggingface.co/a", "mail me@example.org about https://huggingface.co/a"),
    ],
)
def test_users_and_passwords_are_left_out(text, shown):
    assert hub.shown(text) == shown


@pytest.mark.parametrize(
    "address",
    [
        f"http://{SECRET}@127.0.0.1:9",
        f"http://{SECRET}@127.0.0.1",
        f"http://{SECRET}@someone@127.0.0.1:9",
        f"http://{SECRET}/someone@127.0.0.1:9",
        f"{SECRET}@127.0.0.1:9",
    ],
)
def test_no_message_of_planning_of_a_lock_or_of_doctor_holds_a_password(monkeypatch, tmp_path, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for asked in (lambda: checks._check_hub("s.yaml: models.m.hub", "a/b"), lambda: lock.commit_of("a/b", "main")):
        with pytest.raises(StudyError, match=r"127\.0\.0\.1") as said:
            asked()
        assert SECRET.partition(":")[2] not in str(said.value)
        assert "@" not in str(said.value)
    assert "someone" not in hub.shown(hub.endpoint())
    assert survey.is_reachable(address, {}) is False


def test_a_user_and_password_go_to_the_host_and_are_no_part_of_its_name():
    asked = hub.request("https://me:a%40b@hub.example:8080/x", "HEAD")
    assert (asked.full_url, asked.host, asked.method) == ("https://hub.example:8080/x", "hub.example:8080", "HEAD")
    assert base64.b64decode(asked.unredirected_hdrs["Authorization"].removeprefix("Basic ")) == b"me:a@b"
    assert not hub.request("https://hub.example").has_header("Authorization")


def test_a_mirror_that_doctor_looks_for_may_be_a_file(tmp_path):
    (tmp_path / "builds").write_text("")
    assert survey.is_reachable((tmp_path / "builds").as_uri(), {})
    assert not survey.is_reachable((tmp_path / "missing").as_uri(), {})


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"HF_TOKEN": "hf_of_the_variable"}, "hf_of_the_variable"),
        ({}, "hf_of_the_login"),
        ({"HF_TOKEN_PATH": "elsewhere"}, ""),
        ({"HF_HOME": "nowhere"}, ""),
    ],
)
def test_a_token_is_where_the_hubs_library_has_it(tmp_path, environ, wanted):
    """Whoever had logged in by `hf auth login` was told by `new` and `lock` that the repository does not exist, and the jobs had it."""
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface" / "token").write_text("hf_of_the_login\n")
    environ = {"XDG_CACHE_HOME": str(tmp_path), **environ}
    assert hub.token(environ) == wanted
    assert ("set HF_TOKEN, or log in" in hub.refused(environ)) == (not wanted)


def test_the_token_of_a_login_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "token").write_text("hf_of_the_login\n")
    asked = []

    def opened(request, timeout):
        asked.append(request)
        raise OSError("no network")

    monkeypatch.setattr(hub.urllib.request, "urlopen", opened)
    with pytest.raises(OSError, match="no network"), hub.opened("https://hub.example/x"):
        pass
    assert asked[0].unredirected_hdrs == {"Authorization": "Bearer hf_of_the_login"}
