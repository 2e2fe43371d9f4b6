"""What can be said from repeated measurements: means, intervals, percentiles, speeds, noise between runs, verdicts. Pure; NumPy alone.

Every function takes the measurements themselves, in any unit, and gives figures in that unit. There are three kinds of input, each
in a module of its own:

- a *sample* (samples, percentiles): independent values, in any order.
- a *series* (series, stopping): the replies of one process, in their order. Neighbours are alike, because the machine's speed wanders; an
  interval that takes them for independent is far too narrow. `level` allows for that.
- *runs* (speeds): several processes that measured the same. `speed` pools them, and allows for what changes from one process to the next;
  two such speeds are compared by `over` and `verdict` (verdicts), at the level that its runs ask for (`confidence`).

No module has the name of a function here: `stats.NAME` is one thing (fingerprint.py reads it off the code).
"""

from speedgrid.stats.percentiles import percentile, percentile_interval, percentile_needs, percentile_supported
from speedgrid.stats.samples import CONFIDENCE, Estimate, Outliers, mean, mean_interval, outliers, sd
from speedgrid.stats.series import Level, autocorrelation, level, pooled
from speedgrid.stats.speeds import (
    AS_DISTURBED,
    Prior,
    Run,
    Speed,
    between_priors,
    disturbed_share,
    drift,
    fitted,
    located,
    partly,
    run,
    shown,
    speed,
    with_shown,
)
from speedgrid.stats.stopping import Precision, stop
from speedgrid.stats.student import t_quantile
from speedgrid.stats.verdicts import (
    AGAIN,
    CLOSE,
    NEGLIGIBLE,
    NOT_FAR,
    Price,
    Verdict,
    between,
    confidence,
    further_runs,
    leaders,
    over,
    verdict,
)

__all__ = [
    "AGAIN",
    "AS_DISTURBED",
    "CLOSE",
    "CONFIDENCE",
    "NEGLIGIBLE",
    "NOT_FAR",
    "Estimate",
    "Level",
    "Outliers",
    "Precision",
    "Price",
    "Prior",
    "Run",
    "Speed",
    "Verdict",
    "autocorrelation",
    "between",
    "between_priors",
    "confidence",
    "disturbed_share",
    "drift",
    "fitted",
    "further_runs",
    "leaders",
    "level",
    "located",
    "mean",
    "mean_interval",
    "outliers",
    "over",
    "partly",
    "percentile",
    "percentile_interval",
    "percentile_needs",
    "percentile_supported",
    "pooled",
    "run",
    "sd",
    "shown",
    "speed",
    "stop",
    "t_quantile",
    "verdict",
    "with_shown",
]
