"""Options of the contract: a part of it, and where it runs."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import statuses


def pytest_addoption(parser):
    group = parser.getgroup("contract")
    group.addoption(
        "--environment", action="append", default=[], help="only the techniques of an environment, such as llamacpp; several times"
    )
    group.addoption(
        "--keep", default=None, metavar="FOLDER", help="run in this folder, and go on there with what an earlier run has measured"
    )


def pytest_collection_modifyitems(config, items):
    wanted = set(config.getoption("--environment"))
    if not wanted:
        return
    registry = yaml.safe_load((config.rootpath / "techniques.yaml").read_text(encoding="utf-8"))

    def is_wanted(item: pytest.Item) -> bool:
        technique = getattr(item, "callspec", None) and item.callspec.params.get("technique")
        return bool(technique) and bool(wanted & statuses.environments(registry[technique]))

    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = [item for item in items if is_wanted(item)]
