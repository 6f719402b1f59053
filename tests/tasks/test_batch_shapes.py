"""The shapes of batches of sentences, against brute force, and of streams that change their lengths."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.tasks.batch_shapes import FEW_ROWS, MOST_ROWS, BatchShapes, common_lengths


@given(st.lists(st.integers(2, 100), min_size=9, max_size=40), st.sampled_from([100, 97, 40]))
def test_the_common_lengths_cost_least(sizes: list[int], longest: int) -> None:
    sizes = [min(size, longest) for size in sizes]
    whole = -(-longest // 8) * 8

    def few(size: int) -> float:
        return 1.5 * next(length for length in (24, 56, whole) if size <= length and (length <= whole))

    def cost(lengths: tuple[int, int]) -> float:
        return sum(min([each for each in lengths if size <= each], default=few(size)) for size in sizes)

    choices = [(a, b) for a in range(8, whole + 1, 8) for b in range(a, whole + 1, 8)]
    assert cost(common_lengths(sizes, longest)) == min(map(cost, choices))


def shapes_of(shapes: BatchShapes, sizes: list[int]) -> list[tuple[int, int, int]]:
    """(sentences, rows, length) of the batches of a window of sentences."""
    left, batches = sorted(sizes, reverse=True), []
    shapes.suit(left)
    while left:
        rows, length = shapes.rows_and_length(len(left), left[0])
        batches.append((len(left[:rows]), rows, length))
        assert left[0] <= length
        left = left[rows:]
    return batches


@pytest.mark.parametrize(
    "windows", [[(3, 8), (20, 40)], [(40, 60), (3, 8)], [(3, 8), (90, 128), (3, 8), (20, 40)]]
)
def test_a_stream_may_change_its_lengths(windows: list[tuple[int, int]]) -> None:
    """As one that is sorted by length: each window is translated in full batches, with few pads."""
    shapes, rng = BatchShapes(128), random.Random(0)
    for low, high in windows:
        sizes = [rng.randint(low, high) for _ in range(8 * MOST_ROWS)]
        batches = shapes_of(shapes, sizes)
        assert [rows for _, rows, _ in batches[:-1]] == [MOST_ROWS] * (len(batches) - 1)
        padded = sum(rows * length for _, rows, length in batches)
        assert padded < 1.6 * (sum(sizes) + 8 * len(sizes) / 2)


@given(st.lists(st.lists(st.integers(2, 200), min_size=1, max_size=600), max_size=30))
def test_there_are_at_most_ten_shapes(windows: list[list[int]]) -> None:
    shapes = BatchShapes(200)
    seen = {(rows, length) for sizes in windows for _, rows, length in shapes_of(shapes, sizes)}
    assert len({shape for shape in seen if shape[0] == MOST_ROWS}) <= 7
    assert len({shape for shape in seen if shape[0] == FEW_ROWS}) <= 3


def test_a_long_sentence_does_not_lengthen_those_after_it() -> None:
    shapes = BatchShapes(256)
    assert shapes.rows_and_length(1, 200) == (FEW_ROWS, 256)
    assert shapes.rows_and_length(3, 10) == (FEW_ROWS, 24)
    assert shapes.rows_and_length(2, 25) == (FEW_ROWS, 56)
    assert shapes.rows_and_length(1, 10) == (FEW_ROWS, 24)
    shapes = BatchShapes(256)
    assert shapes.rows_and_length(2, 50) == (FEW_ROWS, 56)
    assert shapes.rows_and_length(2, 10) == (FEW_ROWS, 56), "no shape that is compiled for this alone"
    assert BatchShapes(20).rows_and_length(2, 20) == (FEW_ROWS, 24)
