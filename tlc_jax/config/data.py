"""The options of the data: running text and labelled text, sentence pairs. Imports only the standard
library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class DataConfig:
    """Where text comes from. Exactly what is named is used; nothing is downloaded, nothing falls back."""

    name: str = "files"
    """'files': text under data.dir; 'docs': documentation installed with Python and its packages;
    anything else: a TFDS dataset such as wikipedia/20230601.en, or several joined by '+'. To classify:
    'files', glue/sst2, glue/mnli, or docs/package and docs/pair, made of the installed documentation."""
    dir: Optional[str] = None
    """With 'files': a file, a folder or a glob of .txt (blank line between documents) and .jsonl, plain, .gz
    or .zst, all in UTF-8; links are followed, what is left out is told. To classify, a folder with train.tsv
    or train.jsonl and others beside it. With a TFDS name: TFDS's data_dir (its own default if not given)."""
    split: str = "train"
    """TFDS split."""
    text_field: str = "text"
    """Field of a TFDS example or of a .jsonl object that holds the text."""
    tokenizer: Optional[str] = None
    """Byte-level BPE to load: a tokenizer.json, or GPT-2's vocab.json with merges.txt beside it; one that
    does not keep every text is refused. None: trained on this text."""
    sequence_length: int = 128
    """Tokens of a row, the leading <s> included."""
    held_out: float = 0.005
    """Share of the documents, or of the examples to classify, that is kept from training, chosen by hash: to
    evaluate on (paper 2.1: 0.5 %), or to tune on, apart from the sets that are reported."""
    seed: int = 0
    """Chooses the held-out documents and the tokenizer's sample; the run's own seed does not."""
    cache_dir: str = "~/.cache/tlc_jax"
    """Tokenised text is kept here, by content, for the next run."""

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.sequence_length >= 8, f"data.sequence_length must be at least 8, not {self.sequence_length}"
        )
        check(0 < self.held_out < 1, f"data.held_out must be in (0, 1), not {self.held_out}")
        check(self.tokenizer != "", "data.tokenizer is empty: name a file, or leave the option out")
        check(
            not self.name.startswith("docs") or self.dir is None,
            f"data.dir is {self.dir!r} but data.name is {self.name!r} (installed documentation), which reads "
            "no folder: give data.name 'files' to read the folder, or drop data.dir",
        )

    @property
    def source_names(self) -> tuple[str, ...]:
        """What names the data, below data.dir or in a catalogue of data sets."""
        return (self.name, self.split)


@dataclass(frozen=True)
class PairsConfig:
    """Where sentence pairs come from. Exactly what is named is used; nothing is downloaded.

    A source is a file below data.dir (.tsv, .tsv.gz, .tsv.zst: source, tab, target, or a first line that
    names the languages), a glob of them, a split of a prepared TFDS dataset (wmt14_translate/fr-en:train), or
    'catalogues': the message catalogues that Python packages bring along (extra `catalogues`)."""

    train: str = "wmt14_translate/fr-en:train"
    """Sources separated by commas. With SOURCE=SHARE for all, shares of the pairs that are trained on."""
    validation: str = "wmt14_translate/fr-en:validation"
    """Sources to evaluate on while training; empty: data.held_out of the training pairs, chosen by hash."""
    test: str = "wmt14_translate/fr-en:test"
    """Sources that training never reads; may be empty. Each is a set of its own."""
    source: str = "en"
    """Language that is translated."""
    target: str = "fr"
    """Language to translate to."""
    dir: Optional[str] = None
    """The folder that the sources are in; None: TFDS's own default."""
    tokenizer: Optional[str] = None
    """Joint byte-level BPE to load (tokenizer.json); None: trained on these pairs."""
    sequence_length: int = 256
    """Longest sentence in tokens, its end included; longer pairs are not trained on."""
    max_ratio: float = 2.0
    """Pairs of which one side is so many times longer (in characters, 10 added to both) are not trained
    on."""
    max_shapes: int = 32
    """Shapes of batches at most: fewer are compiled sooner and pad more. About 25 keep pads below 10 %; few
    pairs get fewer, one for every three updates of an epoch."""
    held_out: float = 0.005
    """Share of the training pairs that is kept to evaluate on where no validation set is named."""
    seed: int = 0
    """Chooses held-out pairs and the tokenizer's sample; the run's own seed does not."""
    cache_dir: str = "~/.cache/tlc_jax"
    """Tokenised pairs are kept here, by content, for the next run."""

    def __post_init__(self) -> None:
        check_types(self)
        check(
            self.sequence_length >= 8, f"data.sequence_length must be at least 8, not {self.sequence_length}"
        )
        check(0 < self.held_out < 1, f"data.held_out must be in (0, 1), not {self.held_out}")
        check(self.tokenizer != "", "data.tokenizer is empty: name a file, or leave the option out")
        check(self.max_shapes >= 1, f"data.max_shapes must be at least 1, not {self.max_shapes}")
        check(self.max_ratio > 1, f"data.max_ratio must be above 1, not {self.max_ratio}")
        check(bool(self.train.strip(" ,")), "data.train names no source")
        check(self.source != self.target, f"data.source and data.target are both {self.source!r}")

    @property
    def source_names(self) -> tuple[str, ...]:
        """What names the data, below data.dir or in a catalogue of data sets."""
        sources = (self.train, self.validation, self.test)
        return tuple(name.strip() for text in sources for name in text.split(","))
