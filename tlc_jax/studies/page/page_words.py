"""Numbers as the page words them."""

from __future__ import annotations

from tlc_jax.core.printable import printable, three_digits
from tlc_jax.studies.as_many_bytes import KILOBYTE
from tlc_jax.studies.compressed_models import DENSE
from tlc_jax.tasks.metric import NATS_PER_BYTE

_MINUTE, _HOUR = 60, 3600


def duration(seconds: float) -> str:
    """Such as 40 s, 20 min or 1.5 h, in two digits; as a whole number where that is within 2 %."""
    for unit, seconds_of_unit in (("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * seconds_of_unit:
            return f"{_two_digits(seconds / seconds_of_unit)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(number: float) -> str:
    whole = round(number)
    near = number >= 9.95 or abs(number - whole) < 0.02 * number
    return f"{whole:,}" if near else f"{number:.2g}"


def file_size(number: float) -> str:
    """Such as 845 kB, 7.65 MB or 1.02 GB."""
    for unit, bytes_of_unit in (("GB", KILOBYTE**3), ("MB", KILOBYTE**2)):
        if number >= bytes_of_unit:
            return f"{three_digits(number / bytes_of_unit)} {unit}"
    return f"{three_digits(number / KILOBYTE)} kB"


def metric_words(name: str) -> str:
    """The name of a metric in words."""
    return name.replace("_", " ")


def direction(higher_is_better: bool) -> str:
    """Which way a metric is better."""
    return "higher is better" if higher_is_better else "lower is better"


def logarithmic(metric: str) -> bool:
    """Whether values of a metric are drawn on a logarithmic axis, as in pictures."""
    return metric == NATS_PER_BYTE.name


def typeset(text: str) -> str:
    """A sentence for a terminal, made printable, with a sign in place of +-."""
    return printable(text.replace("+-", "\N{PLUS-MINUS SIGN}"), 1000)


def recipe_of(bits: int, amount: str) -> str:
    """Such as 8 bits, or 60 % pruned, 6 bits; what is done to a trained model."""
    kept = f"{bits} bits" if bits != DENSE or amount else "uncompressed"
    return ", ".join(filter(None, (amount, kept)))
