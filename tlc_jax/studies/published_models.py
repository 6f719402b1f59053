"""Published accuracies of compressed and of small encoders, by megabytes, as their sources state them.

None of them was measured here. They differ from each other in pretraining, data, distillation and the bits of
their activations, so they say what is known to be possible, and not which method is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TASKS = {"glue/sst2": "SST-2", "glue/mnli": "MNLI matched"}
"""The tasks of the page, by the names of their data."""


@dataclass(frozen=True)
class Accuracy:
    """Percent of a set. `set` is the development set, on which models are often chosen, or the test set."""

    percent: float
    set: Literal["development", "test"] = "development"


@dataclass(frozen=True)
class Published:
    """A model. `megabytes` (10^6 bytes) are its parameters in float32, or at the numbers of bits that its
    source states; files are published of none of those at few bits."""

    model: str
    megabytes: float
    stored: Literal["float32", "stated bits"]
    source: str
    sst2: Accuracy | None = None
    mnli: Accuracy | None = None

    def on(self, task: str) -> Accuracy | None:
        """Its accuracy on one of `TASKS`."""
        return {"glue/sst2": self.sst2, "glue/mnli": self.mnli}[task]


_BIT = "README of facebookresearch/bit"
_SURVEY = "table of a survey of compressed BERTs"
_HASH = "model card of NeuML"

PUBLISHED = (
    Published("BERT base", 418, "float32", _BIT, Accuracy(93.2), Accuracy(84.9)),
    Published("XtremeDistil l6-h384", 88, "float32", "model card", Accuracy(92.3), Accuracy(85.4)),
    Published("XtremeDistil l6-h256", 52, "float32", "model card", Accuracy(91.2), Accuracy(83.9)),
    Published(
        "MobileBERT", 101, "float32", "Sun et al. 2020", Accuracy(92.8, "test"), Accuracy(83.3, "test")
    ),
    Published("TinyBERT4", 58, "float32", "Jiao et al. 2020", Accuracy(92.6, "test"), Accuracy(82.5, "test")),
    Published("Q-BERT, 2 and 4 bits", 53, "stated bits", _SURVEY, mnli=Accuracy(83.5)),
    Published("GOBO, 3 and 4 bits", 43, "stated bits", _SURVEY, mnli=Accuracy(83.7)),
    Published("Quant-Noise", 38, "stated bits", _SURVEY, mnli=Accuracy(83.6)),
    Published("TernaryBERT", 28, "stated bits", _SURVEY, Accuracy(93), Accuracy(83.5)),
    Published("BinaryBERT, 8-bit activations", 17, "stated bits", _SURVEY, mnli=Accuracy(84.2)),
    Published("BinaryBERT, 4-bit activations", 16.5, "stated bits", _BIT, Accuracy(92.3), Accuracy(83.9)),
    Published("BiT, 4-bit activations", 13.4, "stated bits", _BIT, Accuracy(91.5), Accuracy(83.6)),
    Published("BiT, binary activations", 13.4, "stated bits", _BIT, Accuracy(89.9), Accuracy(79.5)),
    Published("BiBERT", 13.4, "stated bits", _BIT, Accuracy(88.7), Accuracy(66.1)),
    Published(
        "BERT mini", 45, "float32", "model card of Google", Accuracy(85.9, "test"), Accuracy(74.8, "test")
    ),
    Published("BERT tiny", 17.5, "float32", _HASH, Accuracy(82.2), Accuracy(71.1)),
    Published("BERT hash nano", 3.9, "float32", _HASH, Accuracy(81.3), Accuracy(65.7)),
    Published("BERT hash pico", 1.8, "float32", _HASH, Accuracy(78.8), Accuracy(62.3)),
    Published("BERT hash femto", 0.97, "float32", _HASH, Accuracy(78.2), Accuracy(57.0)),
    Published("TS-Mixer S", 0.70, "float32", "its README", Accuracy(83.7)),
    Published("TS-Mixer B", 1.7, "float32", "its README", Accuracy(84.8)),
)
