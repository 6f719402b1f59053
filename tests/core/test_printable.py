"""Numbers for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.printable import three_digits
from tlc_jax.studies.page.page_words import file_size


@pytest.mark.parametrize(
    ("number", "text"), [(0.01234, "0.0123"), (948.2, "948"), (999.7, "1,000"), (3016.0, "3,020"), (0.0, "0")]
)
def test_three_digits(number: float, text: str) -> None:
    assert three_digits(number) == text


@given(st.floats(1e-3, 1e12))
def test_three_digits_are_near_and_have_no_exponent(number: float) -> None:
    text = three_digits(number)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(number, rel=0.0051)


def test_a_size_of_a_file_has_no_exponent() -> None:
    assert [file_size(size) for size in (999_700, 1_016_000, 1.4e12)] == ["1,000 kB", "1.02 MB", "1,400 GB"]
