"""Shows what speedgrid has left on this machine, and removes it: what it made itself, and nothing else.

./speedgrid clean [WHAT ...] [--yes] [-n]
"""

import os
import sys
from pathlib import Path

from speedgrid import commands, compiled, hub, inventory, planning, snakemake_seam, user_cache
from speedgrid.amounts import size
from speedgrid.inventory import Found
from speedgrid.outcomes import ModelError

NAMED = 5  # of what is left, by kind
IN_FOLDER = ("results", "models", "logs")  # no run may go on while these are removed


def main() -> int:
    arguments = commands.one("clean").parse_args()
    there = [found for found in everything() if found.kind in (arguments.what or commands.KINDS)]
    commands.say("\n".join(line for found in there for line in described(found)))
    offered = [found for found in there if found.own]
    if arguments.dry_run or not offered:
        commands.say("Nothing to remove." if not offered else "Nothing was removed (--dry-run).")
        return 0
    if not arguments.yes and not sys.stdin.isatty():
        commands.refuse("nothing was removed, because nobody can be asked here; say --yes, or -n only to look")
    if arguments.yes and (spared := [found for found in offered if is_spared(found, arguments.what)]):
        commands.say(
            f"Left, because other clones use them: {', '.join(str(found.folder) for found in spared)};"
            f" {commands.program()} clean {' '.join(dict.fromkeys(found.kind for found in spared))} --yes removes them, too."
        )
        offered = [found for found in offered if found not in spared]
    return max([taken_away(found) for found in offered if arguments.yes or is_wanted(found)], default=0)


def is_spared(found: Found, named: list[str]) -> bool:
    """Whether a kind stays where nobody is asked and it was not named: another clone may have no network to make it again."""
    return found.is_shared and found.kind not in named


def everything() -> list[Found]:
    """All that is there, by kind, in the order in which it is removed: the launcher's own environment last."""
    here, cache = Path.cwd(), user_cache.own()
    of_jobs = snakemake_seam.environments_folder(here)
    installed = [path for path in sorted(cache.glob("launcher-*")) if path.is_dir()]
    in_clone = [path for path in (planning.ROOT / name for name in (".venv-docs", ".venv-test", ".venv")) if os.path.lexists(path)]
    return [
        inventory.results(here / "results"),
        inventory.models(here / "models"),
        inventory.logs(here / "logs"),
        inventory.downloads(hub.cache_folder()),
        inventory.of_compilers(compiled.folder()),
        inventory.job_environments(of_jobs, is_ours=cache in of_jobs.parents),
        inventory.launcher_environments(installed, is_shared=True),
        inventory.launcher_environments(in_clone, is_shared=False),
    ]


def described(found: Found) -> list[str]:
    """A kind, where it lies, how much may be removed, and what is left there; empty where nothing is there."""
    if not (found.own or found.left):
        return []
    lines = [f"{found.kind}: {size(found.bytes)} in {found.folder}" if found.own else f"{found.kind}: nothing to remove in {found.folder}"]
    lines += [f"  {name}: {size(found.sizes.get(environment, 0))}" for environment, name in found.names.items()]
    if found.kind == "downloads":
        lines[0] = f"downloads: {found.folder}, which other programs use too; delete there what you no longer want"
    lines += [f"  left: {line}" if found.kind != "downloads" else f"  {line}" for line in found.left[:NAMED]]
    return lines + ([f"  and {len(found.left) - NAMED:,} more"] if len(found.left) > NAMED else [])


def is_wanted(found: Found) -> bool:
    used = ", which other clones use, too" if found.is_shared else ""
    try:
        return input(f"Remove {size(found.bytes)} of {found.kind} in {found.folder}{used}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def taken_away(found: Found) -> int:
    """Remove a kind and say so; the exit status."""
    was = size(found.bytes)
    try:
        if found.kind in IN_FOLDER:
            with inventory.no_run_in(Path.cwd()):
                inventory.remove(found)
        else:
            inventory.remove(found)
    except inventory.FolderInUse as error:
        print(f"speedgrid: {error}", file=sys.stderr)
        return commands.MISTAKE
    except (OSError, ModelError) as error:
        print(f"speedgrid: {error}", file=sys.stderr)
        return 1
    commands.say(f"Removed {was} of {found.kind}.")
    return 0


if __name__ == "__main__":
    commands.run(main)
