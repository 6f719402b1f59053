"""The compressed models of a study: the seeds of one together, and which is best for which memory.

Choices are made on the tuning set; what is reported of a choice is its accuracy on the reported set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import Result
from tlc_jax.studies.statistics import seed_error


@dataclass(frozen=True, eq=False)  # two are the same if they are one
class CompressedModel:
    """A size at a number of bits and a sparsity, in one or several seeds."""

    size: str
    bits: int
    sparsity: float
    paper_bytes: float
    tuning_accuracy: float
    correct: Bool[np.ndarray, "seeds examples"]

    @property
    def accuracies(self) -> Float[np.ndarray, "seeds"]:
        """On the reported set."""
        return self.correct.mean(axis=1)

    @property
    def accuracy(self) -> float:
        return float(self.accuracies.mean())

    @property
    def standard_error(self) -> float:
        """From which examples are in the set, and over seeds where there are several."""
        examples = math.sqrt(self.accuracy * (1 - self.accuracy) / self.correct.shape[1])
        return math.hypot(examples, seed_error(self.accuracies))

    def __str__(self) -> str:
        return f"{self.size} at {self.bits} bits, {100 * self.sparsity:.0f} % pruned"


def compressed_models(store: ResultStore) -> list[CompressedModel]:
    """In the order in which a study made them."""
    groups: dict[tuple[str, float, int], list[Result]] = {}
    for result in store.find(stage="compress"):
        groups.setdefault((result["size"], result["sparsity"], result["bits"]), []).append(result)
    return [
        CompressedModel(
            size=size,
            bits=bits,
            sparsity=sparsity,
            paper_bytes=seeds[0]["paper_bytes"],
            tuning_accuracy=float(np.mean([result["tuning_accuracy"] for result in seeds])),
            correct=np.stack([unpack(result["correct"], result["examples"]) for result in seeds]),
        )
        for (size, sparsity, bits), seeds in groups.items()
    ]


def best(models: Iterable[CompressedModel], limit: float = math.inf) -> CompressedModel | None:
    """The most accurate on the tuning set of those within `limit` bytes; the smaller of equals."""
    within = [model for model in models if model.paper_bytes <= limit]
    return max(within, key=lambda m: (m.tuning_accuracy, -m.paper_bytes), default=None)


def frontier(models: list[CompressedModel]) -> list[CompressedModel]:
    """The best model for each memory: each is more accurate on the tuning set than all smaller ones."""
    chosen = (best(models, model.paper_bytes) for model in sorted(models, key=lambda m: m.paper_bytes))
    return list(dict.fromkeys(model for model in chosen if model is not None))


def pack(correct: Bool[np.ndarray, "examples"]) -> str:
    """One bit an example, in hexadecimal."""
    return np.packbits(correct).tobytes().hex()


def unpack(packed: str, examples: int) -> Bool[np.ndarray, "examples"]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8))[:examples].astype(bool)
