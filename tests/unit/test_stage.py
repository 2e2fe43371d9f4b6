"""stage.py: the row of what nobody foresaw."""

import sys
from pathlib import Path

import pytest
from speedgrid import outcomes, stage


def raised(code: str, folder: Path | None = None) -> BaseException:
    with pytest.raises(ImportError) as found:
        exec(code, {"folder": folder})
    return found.value


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """An environment with packages that cannot be imported, and one that can."""
    for name, code in {
        "broken_library": "raise ImportError('libnosuch.so.9: cannot open shared object file', name='broken_library._C', path=__file__)",
        "broken_version": "from whole_library import nosuch",
        "wrapped_library": "try:\n    import broken_version\nexcept ImportError:\n    raise ImportError('its C-extensions failed')",
        "whole_library": "",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    yield
    for name in ("broken_library", "broken_version", "wrapped_library", "whole_library"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["broken_library", "broken_version", "wrapped_library"])
def test_a_package_of_the_environment_that_cannot_be_imported_is_a_matter_of_the_environment(damaged, name):
    assert stage._is_of_environment(raised(f"import {name}"))


@pytest.mark.parametrize(
    "code",
    [
        "from speedgrid.files import nosuch",
        "raise ImportError('this model wants a kernel that is not for this device')",
        "from json import nosuch",
        "import whole_library; raise ImportError('whole_library does not do that')",
    ],
)
def test_what_a_new_environment_would_not_mend_is_not_said_to_be_its_fault(damaged, code):
    assert not stage._is_of_environment(raised(code))
    assert not stage._is_of_environment(ValueError("x"))


def test_an_error_of_a_program_is_said_in_its_own_words_and_one_of_python_with_its_kind(tmp_path, capfd):
    job = stage.Job("measure", {}, tmp_path / "measure.parquet", tmp_path / "checkpoint")
    job.enter("loading")
    fault = stage._unexpected(outcomes.Fault("vLLM cannot load the model: KeyError: 'layers.0'"), job)
    assert (fault.status, str(fault).partition("; see ")[0]) == (
        "failed",
        "vLLM cannot load the model: KeyError: 'layers.0', while loading",
    )
    assert str(stage._unexpected(KeyError("layers.0"), job)).startswith("KeyError: 'layers.0', while loading")
    assert "Fault" in capfd.readouterr().err  # the traceback goes to the log


def test_what_a_library_raises_in_the_place_of_an_error_is_told_with_that_error(tmp_path, capfd):
    """A failed export said what option to pass to optimum's own command, and not what it had failed over."""
    job = stage.Job("quantize", {}, tmp_path / "quantize.parquet", tmp_path / "checkpoint")
    job.enter("making the checkpoint")
    advice = RuntimeError("The post-processing of the export failed. Pass --no-post-process")
    advice.__cause__ = OSError("again")
    advice.__cause__.__cause__ = ValueError("Failed to serialize\nproto")
    said = "Pass --no-post-process (caused by ValueError: Failed to serialize proto), while making the checkpoint"
    assert said in str(stage._unexpected(advice, job))
    again = RuntimeError("cannot load: no such layer")
    again.__cause__ = KeyError()
    assert "caused" not in str(stage._unexpected(again, job)), "which says nothing"
    again.__cause__ = ValueError("no such layer")
    assert "caused" not in str(stage._unexpected(again, job)), "which is said already"
    again.__cause__ = again
    assert "caused" not in str(stage._unexpected(again, job)), "which Python allows"
    again.__cause__ = OSError("403 for https://user:secret@hub.example/file?signature=abc")
    assert "caused by OSError: 403 for https://hub.example/file?...)" in str(stage._unexpected(again, job))


@pytest.mark.parametrize("is_beside_others", [False, True])
@pytest.mark.parametrize("outcome", [outcomes.OutOfMemory("no room"), outcomes.Timeout("late"), outcomes.Unsupported("no such layer")])
def test_what_runs_out_beside_others_that_are_made_is_no_outcome_of_the_cell(tmp_path, is_beside_others, outcome):
    job = stage.Job("quantize", {}, tmp_path / "quantize.parquet", tmp_path / "checkpoint", is_beside_others=is_beside_others)
    status, reason = stage._failed_if_sharing(outcome, "no room", job)
    if is_beside_others and outcome.status in ("oom", "timeout"):
        assert (status, reason) == (
            "failed",
            "no room, where other checkpoints may have been made on the same GPU; run again without `makes`",
        )
    else:
        assert (status, reason) == (outcome.status, "no room")
