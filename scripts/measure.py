"""Count and time the replies of a cell, or the steps or passes of another workload. Writes measure.parquet, one row each."""

from speedgrid import stage
from speedgrid.workloads import repeat

if __name__ == "__main__":
    stage.run("measure", repeat.measure)
