"""Sizes and speeds of the codings of artifacts, beside the order-0 entropy of their codes and masks.

    python benchmarks/coding.py ARTIFACT [ARTIFACT ...]

Prints a table in Markdown: bytes of all streams (ranges, which are not coded, in a column of their own), and
millions of decoded bytes a second of CPU time. The columns of rANS take `pip install constriction`: a coder
with one table of frequencies for each stream, of 16 bits a symbol; eight weights of a mask are one symbol.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow

from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.encoding import entropy_of
from tlc_jax.core.leaf import Leaf

Coded = tuple[int, Callable[[], bytes]]
"""(bytes, a function that decodes them)."""


def streams(leaf: Leaf) -> Iterator[tuple[np.ndarray, int]]:
    """(whole bytes, as they are coded; the size of the same in the plain coding) of each stream."""
    plain, coded = leaf.encode(coded=False)[1], leaf.encode(coded=True)[1]
    for part in coded.keys() - leaf.uncoded:
        yield np.ascontiguousarray(coded[part]).view(np.uint8).reshape(-1), plain[part].nbytes


def library(name: str, level: int) -> Callable[[np.ndarray], Coded]:
    """The coding of a codec of pyarrow."""
    codec = pyarrow.Codec(name, compression_level=level)

    def code(x: np.ndarray) -> Coded:
        content = codec.compress(x, asbytes=True)
        return len(content), lambda: codec.decompress(content, x.size, asbytes=True)

    return code


def rans(x: np.ndarray) -> Coded:
    """Asymmetric numeral systems with the frequencies of this stream."""
    import constriction  # its modules cannot be imported by name

    categorical, ans_coder = constriction.stream.model.Categorical, constriction.stream.stack.AnsCoder
    if not x.size:
        return 0, lambda: b""
    frequencies = np.bincount(x, minlength=2) / x.size
    model = categorical(frequencies, lazy=False, perfect=False)
    coder = ans_coder()
    coder.encode_reverse(x.astype(np.int32), model)
    words = coder.get_compressed()
    size = words.nbytes + 2 * frequencies.size
    return size, lambda: ans_coder(words).decode(model, x.size).astype(np.uint8).tobytes()


def measured(leaves: list[Leaf], codings: dict[str, Callable[[np.ndarray], Coded]]) -> dict[str, float]:
    """Bytes by coding, and `<coding> MB/s`."""
    sizes, seconds, total = defaultdict[str, float](float), defaultdict[str, float](float), 0
    for leaf in leaves:
        parts = leaf.encode(coded=True)[1]
        sizes["ranges"] += sum(parts[part].nbytes for part in leaf.uncoded)
        for x, plain in streams(leaf):
            total += x.size
            sizes["plain"] += plain
            sizes["entropy"] += entropy_of(x)
            for name, code in codings.items():
                size, decode = code(x)
                began = time.process_time()
                content = decode()
                seconds[name] += time.process_time() - began
                assert content == x.tobytes(), f"{name} does not decode to what was coded"
                sizes[name] += size
    return {**sizes, **{f"{name} MB/s": total / 1e6 / max(spent, 1e-9) for name, spent in seconds.items()}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="+")
    codings = {"brotli-11": library("brotli", 11), "zstd-19": library("zstd", 19)}
    try:
        import constriction  # noqa: F401

        codings = {"rANS": rans, **codings}
    except ImportError:
        print("no rANS: constriction is not installed", file=sys.stderr)
    columns = ["plain", "entropy", *codings, "ranges", *(f"{name} MB/s" for name in codings)]
    print(f"| artifact | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for folder in parser.parse_args(argv).artifacts:
        row = measured(list(read_artifact(folder).tensors.values()), codings)
        print(f"| {folder.name} | {' | '.join(f'{row[name]:,.0f}' for name in columns)} |", flush=True)


if __name__ == "__main__":
    main()
