"""Where the user's cache is: in the home, where XDG_CACHE_HOME says, or, for a user who has neither, where nobody else can have written."""

import pytest
from speedgrid import compiled, user_cache


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in ("XDG_CACHE_HOME", compiled.PLACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(user_cache.tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def test_it_is_in_the_home_or_where_the_user_says(place, monkeypatch):
    assert user_cache.own() == user_cache.writable() == place / "home/.cache/speedgrid"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    assert user_cache.own() == user_cache.writable() == place / "cache/speedgrid"
    assert compiled.folder() == place / "cache/speedgrid/compiled"
    monkeypatch.setenv(compiled.PLACE, str(place / "fast"))
    assert compiled.folder() == place / "fast"


@pytest.mark.parametrize("home", ["/dev/null", "/proc/1"])
def test_without_a_home_that_can_be_written_it_is_a_folder_of_the_users_own(place, monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(user_cache.os, "access", lambda path, mode: not str(path).startswith("/proc"))
    assert user_cache.writable().parent == place / "tmp"
    assert compiled.folder().parent.parent == place / "tmp"


def test_without_a_name_and_a_home_it_is_one_too(place, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a number that no user has
    with pytest.raises(RuntimeError):
        user_cache.own()
    assert user_cache.writable().parent == place / "tmp"


def test_what_nobody_else_can_have_written_is_taken_and_else_a_new_folder(place):
    own = user_cache.private()
    assert (own.parent, own.stat().st_mode & 0o777) == (place / "tmp", 0o700)
    assert user_cache.private() == own
    own.chmod(0o777)
    other = user_cache.private()
    assert other != own
    assert other.stat().st_mode & 0o777 == 0o700
