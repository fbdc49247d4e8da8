"""How numbers read in the report's sentences, tables and plots."""

from __future__ import annotations

import math
from datetime import datetime

NBSP = "\N{NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
ABSENT = "\N{EN DASH}"  # in a table, for what does not apply or was not recorded
MISSING = "not a number"
SHARES = ("accuracy", "precision", "recall")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float, digits: int = 2) -> str:
    """A share between 0 and 1 as a percentage: 0.9921 is '99.21 %'."""
    return f"{100 * share:.{digits}f}{NBSP}%" if math.isfinite(share) else MISSING


def loss(figure: float) -> str:
    """A loss with four decimals, or as a power of ten where four decimals would show nothing."""
    if not math.isfinite(figure):
        return MISSING
    if figure == 0 or abs(figure) >= 0.001:
        return f"{figure:.4f}"
    mantissa, exponent = f"{figure:.1e}".split("e")
    return f"{mantissa}{NBSP}{TIMES}{NBSP}10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def metric(name: str, figure: float) -> str:
    """A metric by its name: accuracies and other shares in per cent, anything else as a loss."""
    return percent(figure) if is_share(name) else loss(figure)


def change(name: str, figure: float) -> str:
    """A difference of a metric called `name`, with its sign: of shares in percentage points, without the unit."""
    if not math.isfinite(figure):
        return MISSING
    scaled, digits = (100 * figure, 2) if is_share(name) else (figure, 4)
    if abs(scaled) < 1e-9:
        scaled = 0.0  # no sign: it is rounding
    elif abs(scaled) < 0.5 * 10.0 ** -(digits + 2):
        return f"{'+' if scaled > 0 else '-'}{loss(abs(scaled))}"
    elif abs(scaled) < 0.5 * 10.0**-digits:
        digits += 2
    return f"{scaled:+.{digits}f}"


def change_interval(name: str, low: float, high: float) -> str:
    """Both ends of a difference's interval, as :func:`change` writes them."""
    return f"{change(name, low)} to {change(name, high)}"


def is_share(name: str) -> bool:
    """Whether the metric called `name` is a share: its differences are percentage points."""
    return any(share in name for share in SHARES)


def value(setting: object) -> str:
    """A hyper-parameter's value: floats as short as they can be told apart, the rest as written."""
    if not isinstance(setting, float) or not math.isfinite(setting):
        return str(setting)
    if setting == int(setting) and abs(setting) < 1e6:
        return str(int(setting))
    return f"{setting:.3g}" if abs(setting) < 1 else f"{setting:g}"


def setting(value_: object) -> str:
    """As :func:`value`, 'none' for a hyper-parameter that is not active."""
    return "none" if value_ is None else value(value_)


def settings(before: object, after: object) -> tuple[str, str]:
    """Two values of one hyper-parameter, with as many digits as tell them apart."""
    texts = setting(before), setting(after)
    if texts[0] == texts[1] and isinstance(before, float) and isinstance(after, float):
        pairs = ((f"{before:.{digits}g}", f"{after:.{digits}g}") for digits in range(4, 18))
        texts = next((pair for pair in pairs if pair[0] != pair[1]), texts)
    return texts


def middle(number: float) -> str:
    """A median of whole numbers, which may lie halfway between two: '8', '8.5'."""
    return count(number) if number == int(number) else f"{number:,.1f}"


def count(number: float) -> str:
    """A whole number with its thousands apart: 101770 is '101,770'."""
    return f"{int(number):,}"


def duration(seconds: float, space: str = NBSP) -> str:
    """Seconds in the units a reader would say them in; ``space`` stands between number and unit (a terminal's is plain)."""
    if not math.isfinite(seconds):
        return ABSENT  # not measured
    if seconds < 9.95:
        return f"{seconds:#.2g}{space}s" if 0 < seconds < 0.995 else f"{seconds:.1f}{space}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{space}s"
    if whole < 3600:
        return f"{whole // 60}{space}min {whole % 60:02d}{space}s"
    return f"{whole // 3600}{space}h {whole % 3600 // 60:02d}{space}min"


def interval(low: float, high: float) -> str:
    """An interval of shares: '99.02 to 99.37 %'."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{100 * low:.2f} to {percent(high)}"


def extent(name: str, low: float, high: float) -> str:
    """The smallest and largest of a metric called `name`, without the unit: '99.02 to 99.37'."""
    ends = [metric(name, end).removesuffix(f"{NBSP}%") for end in (low, high)]
    return "all round to this" if ends[0] == ends[1] else " to ".join(ends)


def spread(name: str, mean: float, deviation: float) -> str:
    """A mean with its standard deviation, in the units of the metric called `name`."""
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        return MISSING
    if is_share(name):
        return f"{_pair(100 * mean, 100 * deviation, 2)}{NBSP}%"
    if "seconds" in name:
        return f"{_pair(mean, deviation, 2 if mean < 10 else 1)}{NBSP}s"
    if 0 < mean < 0.001:
        # One exponent for both, so that the two can be compared at a glance.
        exponent = math.floor(math.log10(mean))
        power = str(exponent).translate(_SUPERSCRIPT)
        return f"({_pair(mean / 10**exponent, deviation / 10**exponent, 1)}){NBSP}{TIMES}{NBSP}10{power}"
    return _pair(mean, deviation, 4)


def _pair(mean: float, deviation: float, digits: int) -> str:
    """Both with so many decimals, or up to two more where the deviation would read as zero."""
    if deviation > 0:
        digits = min(max(digits, math.ceil(-math.log10(deviation))), digits + 2)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def words(name: str) -> str:
    """A hyper-parameter's or metric's name as words: 'batch_size' is 'batch size'."""
    return name.replace("val_", "validation ", 1 if name.startswith("val_") else 0).replace("_", " ")


def plural(number: int, noun: str) -> str:
    """'1 trial', '48 trials', '1,200 trials'."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def listed(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def points(difference: float) -> str:
    """A difference of accuracies: percentage points, since per cent of per cent would be misread."""
    return f"{100 * difference:.2f} percentage points" if difference >= 0.00005 else "under 0.01 percentage points"


def moment(stamp: str) -> str:
    """An ISO time to the minute, with its zone; anything else as it stands."""
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".strip()
