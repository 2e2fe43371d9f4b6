# The grid of the study: planned and checked before any job starts. What is planned lives in scripts/speedgrid/grid.py.
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from speedgrid import planning
from speedgrid.grid import StudyError

try:
    grid = planning.load(config, workflow)
except StudyError as error:
    sys.exit(f"speedgrid: {error}")


# What only the machine can tell is checked when jobs are about to start, not in a dry run.
onstart:
    try:
        planning.check_machine(grid, workflow)
    except StudyError as error:
        sys.exit(f"speedgrid: {error}")


wildcard_constraints:
    gpu=grid.pattern("gpu"),
    experiment=grid.pattern("experiment"),
    model=grid.pattern("model"),
    technique=grid.pattern("technique"),
    dtype="float32|float16|bfloat16",
