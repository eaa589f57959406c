"""Values as text: numbers, estimates with their intervals, percentages, time spans, radii."""

from __future__ import annotations

from markupsafe import Markup

from robustkit.stats import Estimate

Cell = str | float | None
"""What a table shows: text or markup, a number (bool: yes or no), or None for nothing."""

NOTHING = "–"


def format_estimate(
    estimate: Estimate,
    form: str = ".2f",
    *,
    times: float = 1,
    unit: str = "",
    with_n: bool = False,
) -> str:
    """Return an estimate and its interval as text, a dash without a value.

    `form` is that of each number, which is multiplied by `times`; `unit` follows the value.

    >>> rate = Estimate(value=0.5, n=1200, low=0.47, high=0.53)
    >>> format_estimate(rate), format_estimate(rate, ".1%", with_n=True)
    ('0.50 [0.47, 0.53]', '50.0% [47.0%, 53.0%], n = 1,200')
    """
    if estimate.value is None:
        return NOTHING
    text = f"{times * estimate.value:{form}}{unit}"
    if estimate.low is not None and estimate.high is not None:
        text += f" [{times * estimate.low:{form}}, {times * estimate.high:{form}}]"
    return f"{text}, n = {estimate.n:,}" if with_n else text


def format_percent(
    estimate: Estimate, *, sign: bool = False, unit: str = "", with_n: bool = False
) -> str:
    """Return an estimate of a fraction as `12.3 [10.0, 14.6]`; with `sign` a plus where due."""
    form = "+.1f" if sign else ".1f"
    return format_estimate(estimate, form, times=100, unit=unit, with_n=with_n)


def percent(
    rate: float | None,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    *,
    digits: int = 1,
) -> Markup:
    """Return a rate in [0, 1] as a percentage, with its interval and its number of cases."""
    if rate is None:
        return Markup(NOTHING)
    details = []
    if low is not None and high is not None:
        details.append(f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]")
    if n is not None:
        details.append(f"n = {n:,}")
    small = Markup(" <small>{}</small>").format(", ".join(details)) if details else Markup()
    return Markup(f"{100 * rate:.{digits}f} %") + small


def percent_of(rate: Estimate, *, with_n: bool = False) -> Markup:
    """Return an estimate of a rate as `percent` shows it; with its `n` if asked for."""
    return percent(rate.value, rate.low, rate.high, rate.n if with_n else None)


def number(value: Cell) -> str:
    """Return `value` as text: thousands in groups, four digits of a fraction, a dash for None."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else value


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: `4.2 s`, `3 min 20 s`, `1 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def eps_text(eps: float) -> str:
    """Return ε as the field writes it: `8/255` if a number of grey levels, else a decimal."""
    levels = 255 * eps
    whole = eps > 0 and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:.4g}"
