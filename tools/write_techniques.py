"""Write docs/techniques.md from the registry.

.venv/bin/python tools/write_techniques.py
"""

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from speedgrid.planning import ROOT, read_yaml
from speedgrid.techniques import FAMILIES, REQUIREMENTS

TARGET = ROOT / "docs" / "techniques.md"
HEAD = """# Techniques

Every technique of the registry, [techniques.yaml](../techniques.yaml), by family. Written by `tools/write_techniques.py`; edit the
registry instead. A technique that cannot run on a device is a row of the report with the reason.
"""


def document(registry: Mapping) -> str:
    """The registry as Markdown, a table for each family."""
    parts = [HEAD]
    for family, title in FAMILIES.items():
        rows = [_row(name, entry) for name, entry in registry.items() if entry["family"] == family]
        if rows:
            parts.append(f"## {title}\n\n| name | what it does | environment | needs |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(name: str, entry: Mapping) -> str:
    env = entry["env"] if isinstance(entry["env"], str) else " or ".join(dict.fromkeys(entry["env"].values()))
    needs = (
        f"not to be had: {entry['unavailable']}"
        if "unavailable" in entry
        else ", ".join(REQUIREMENTS[need] for need in entry.get("requires", []))
    )
    label = f"[{entry['label']}]({entry['reference']})" if "reference" in entry else entry["label"]
    return f"| `{name}` | {label}. {entry['summary']} | {env} | {needs} |"


if __name__ == "__main__":
    TARGET.write_text(document(read_yaml("techniques.yaml")), encoding="utf-8")
