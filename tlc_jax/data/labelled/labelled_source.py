"""What a labelled data set is, and what reading it gives: texts or pairs of texts, each with a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.data.fingerprints import identity_of

TRAIN, TUNING = "train", "tuning"
NO_LABEL = -1
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Examples:
    """Texts, or pairs of texts, and the class index of each; NO_LABEL in a set without labels."""

    texts: list[tuple[str, ...]]
    labels: list[int]


@dataclass(frozen=True)
class LabelledSource:
    """A classification task that can be read more than once, set by set.

    `trains` says whether there is a set 'train', which is then neither in `reported` (sets with labels) nor
    in `unlabelled` (sets that can only be predicted). Label names come from the data and are stored with a
    run: GLUE's order is not fairseq's. `notes` say which of the data are not used, `metric` names the
    primary metric of the task (tasks/metric.py).
    """

    description: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    label_names: tuple[str, ...]
    reported: tuple[str, ...]
    read: Callable[[str], Examples]
    trains: bool = True
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metric: str = ACCURACY

    def identity(self) -> str:
        return identity_of(self.files)


@dataclass(frozen=True)
class LabelledDataSet:
    """An entry of the list in data_sets.py: the value of `data.name`, how to open the data, and the name of
    the primary metric (tasks/metric.py).

    `open` takes the config and the label names of the model that the data are for; None if a model is to be
    trained on them, which then needs a set 'train'.
    """

    name: str
    open: Callable[[DataConfig, Sequence[str] | None], LabelledSource]
    metric: str = ACCURACY
