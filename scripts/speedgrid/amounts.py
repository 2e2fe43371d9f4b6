"""How long something takes and how many bytes it has, as a person would say it. Pure."""


def duration(seconds: float, minutes: str = "{} min", hours: str = "{} h") -> str:
    """45 s, 12 min, 2.5 h: the unit in which the number is easily read. `minutes` and `hours` say how, in any language."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return minutes.format(round(seconds / 60))
    return hours.format(f"{seconds / 3600:.1f}".removesuffix(".0"))


def minutes(count: float) -> str:
    """20 minutes, 1 minute: a limit that somebody has set."""
    return f"{count:g} minute{'s' * (count != 1)}"


def size(count: float) -> str:
    """4.9 GB, 93 MB, 12 kB: bytes in units of 10^3, as disks and downloads are told."""
    if count >= 1e8:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
