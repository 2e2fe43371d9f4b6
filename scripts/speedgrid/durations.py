"""How long something takes, as a person would say it. Pure."""


def duration(seconds: float, minutes: str = "{} min", hours: str = "{} h") -> str:
    """45 s, 12 min, 2.5 h: the unit in which the number is easily read. `minutes` and `hours` say how, in any language."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return minutes.format(round(seconds / 60))
    return hours.format(f"{seconds / 3600:.1f}".removesuffix(".0"))
