"""Which size to try next where the largest that fits is sought: by the job that tries, and by estimates of how often it will. Pure."""

from collections.abc import Sequence

# Sizes double until one does not fit, and are then halved apart until they are this close: a sixteenth of what fits.
CLOSE = 16


def next_size(done: Sequence[tuple[int | None, bool]], step: int, most: int | None) -> int | None:
    """The size to try after those in `done`, each with whether it fitted: a multiple of `step`, `most` at most; None where the largest that
    fits is known to within a sixteenth or one step, or the smallest did not fit."""
    fitted = max((size for size, fits in done if fits and size is not None), default=0)
    failed = min((size for size, fits in done if not fits and size is not None), default=None)
    if not done:
        return step
    if not fitted:
        return None
    if failed is None:
        wider = 2 * fitted if most is None else min(2 * fitted, most // step * step)
        return wider if wider > fitted else None
    if failed - fitted <= max(step, fitted // CLOSE):
        return None
    middle = (fitted + failed) // 2 // step * step
    return middle if middle > fitted else None
