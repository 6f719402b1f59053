"""The classification tasks of GLUE (Wang et al. 2019). STS-B, a regression, and AX, which has no training
set, are not among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from tlc_jax.data.preparation.public_data import LABELLED, Part, Publication, PublicData
from tlc_jax.data.preparation.row_readers import columns, glue_table

_URL = "https://dl.fbaipublicfiles.com/glue/data"
_LICENCE = "other: each task of GLUE has its own"
_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_MNLI_SPLITS = {
    "train": "train",
    "validation_matched": "dev_matched",
    "validation_mismatched": "dev_mismatched",
    "test_matched": "test_matched",
    "test_mismatched": "test_mismatched",
}
_CONFIGS = ("cola", "mnli", "sst2")  # tasks with a config that reads them by name
_TWO_SENTENCES = {"text": "sentence1", "text_b": "sentence2", "label": "label"}


def _task(
    name: str,
    wanted: Mapping[str, str],
    rows: Sequence[int],
    archives: tuple[Publication, ...] = (),
    splits: Mapping[str, str] = _SPLITS,
) -> PublicData:
    """A task of the repository nyu-mll/glue; `wanted` are its columns there, `rows` the sizes of the
    splits."""
    config = f"finetune_{name}" if name in _CONFIGS else "finetune_mnli --data.name files"
    parts = (Part(split, (f"{name}/{split}-*.parquet",), columns(wanted)) for split in splits)
    return PublicData(
        name=f"glue/{name}",
        kind=LABELLED,
        repository="nyu-mll/glue",
        parts=tuple(parts),
        licence=_LICENCE,
        archives=archives,
        published=dict(zip(splits, rows, strict=True)),
        options=f"--config {config} --init-from RUN",
    )


def _archive(
    file: str,
    sha256: str,
    folder: str,
    wanted: Mapping[str, str],
    labels: Sequence[str] = (),
    splits: Mapping[str, str] = _SPLITS,
) -> Publication:
    """An archive with a .tsv for each split; those of the test sets have no labels."""
    texts = {field: column for field, column in wanted.items() if field != "label"}
    table = partial(glue_table, labels=labels)
    return Publication(
        name=file,
        url=f"{_URL}/{file}",
        sha256=sha256,
        parts=tuple(
            Part(split, (f"{folder}/{stem}.tsv",), table(texts if "test" in split else wanted))
            for split, stem in splits.items()
        ),
    )


_COLA_HEADER = ("source", "label", "star", "sentence")
_COLA_TEXT = {"text": "sentence"}
_COLA_LABELLED = glue_table(
    {**_COLA_TEXT, "label": "label"}, labels=("unacceptable", "acceptable"), header=_COLA_HEADER
)
_COLA_ARCHIVE = Publication(
    name="CoLA.zip",
    url=f"{_URL}/CoLA.zip",
    sha256="f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
    parts=(
        Part("train", ("CoLA/train.tsv",), _COLA_LABELLED),
        Part("validation", ("CoLA/dev.tsv",), _COLA_LABELLED),
        Part("test", ("CoLA/test.tsv",), glue_table(_COLA_TEXT)),
    ),
)
_SST2_ARCHIVE = _archive(
    "SST-2.zip",
    "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
    "SST-2",
    {"text": "sentence", "label": "label"},
    ("negative", "positive"),
)
_MNLI_ARCHIVE = _archive(
    "MNLI.zip",
    "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
    "MNLI",
    {"text": "sentence1", "text_b": "sentence2", "label": "gold_label"},
    splits=_MNLI_SPLITS,
)
_QQP_ARCHIVE = _archive(
    "QQP.zip",
    "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
    "QQP",
    {"text": "question1", "text_b": "question2", "label": "is_duplicate"},
    ("not_duplicate", "duplicate"),
)
_QNLI_ARCHIVE = _archive(
    "QNLIv2.zip",
    "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
    "QNLI",
    {"text": "question", "text_b": "sentence", "label": "label"},
)
_RTE_ARCHIVE = _archive(
    "RTE.zip", "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee", "RTE", _TWO_SENTENCES
)
_WNLI_ARCHIVE = _archive(
    "WNLI.zip",
    "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46",
    "WNLI",
    _TWO_SENTENCES,
    ("not_entailment", "entailment"),
)

GLUE = (
    _task("cola", {"text": "sentence", "label": "label"}, (8551, 1043, 1063), (_COLA_ARCHIVE,)),
    _task("sst2", {"text": "sentence", "label": "label"}, (67_349, 872, 1821), (_SST2_ARCHIVE,)),
    _task(
        "mnli",
        {"text": "premise", "text_b": "hypothesis", "label": "label"},
        (392_702, 9815, 9832, 9796, 9847),
        (_MNLI_ARCHIVE,),
        _MNLI_SPLITS,
    ),
    _task("mrpc", _TWO_SENTENCES, (3668, 408, 1725)),
    _task(
        "qqp",
        {"text": "question1", "text_b": "question2", "label": "label"},
        (363_846, 40_430, 390_965),
        (_QQP_ARCHIVE,),
    ),
    _task(
        "qnli",
        {"text": "question", "text_b": "sentence", "label": "label"},
        (104_743, 5463, 5463),
        (_QNLI_ARCHIVE,),
    ),
    _task("rte", _TWO_SENTENCES, (2490, 277, 3000), (_RTE_ARCHIVE,)),
    _task("wnli", _TWO_SENTENCES, (635, 71, 146), (_WNLI_ARCHIVE,)),
)
