"""Options of the data: running text, labelled text and sentence pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class DataConfig:
    """Running or labelled text. Exactly the named data are used: nothing is downloaded or replaced."""

    name: str = "files"
    """'files': text under data.dir; 'docs': documentation installed with Python and its packages; any other
    name: a TFDS dataset such as wikipedia/20230601.en, or several joined by '+'. For classification: 'files',
    or a labelled data set such as glue/sst2 or docs/package (an unknown name is answered with the list)."""
    dir: Optional[str] = None
    """With 'files': a file, a folder or a glob of .txt (blank lines between documents) and .jsonl, plain, .gz
    or .zst, all in UTF-8, and of .parquet; links are followed, files that are left out are reported. For
    classification: a folder with a table called train (.tsv, .csv, .jsonl, .parquet) and others. With the
    name of a data set: the folder that `prepare` wrote, or TFDS's data_dir (None: its default)."""
    split: str = "train"
    """TFDS split."""
    text_field: str = "text"
    """Field of a TFDS example or of a .jsonl object, or column of a .parquet, that holds the text."""
    tokenizer: Optional[str] = None
    """A tokenizer.json to load, or GPT-2's vocab.json with merges.txt beside it; for a new language model,
    one that loses text is refused. None: train a byte-level BPE on this text."""
    sequence_length: int = 128
    """Tokens per row, including the <s> at its beginning."""
    held_out: float = 0.005
    """Share of the documents, or of the labelled examples, that is held out from training, chosen by hash: to
    evaluate on (paper 2.1: 0.5 %), or to tune on, apart from the reported sets."""
    seed: int = 0
    """Chooses the held-out documents and the sample for the tokenizer, independently of the seed of the
    run."""
    cache_dir: str = "~/.cache/tlc_jax"
    """Folder for tokenised text, by content, which later runs use again."""

    def __post_init__(self) -> None:
        _check_common(self)
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
    """Sentence pairs. Exactly the named data are used: nothing is downloaded or replaced.

    A source is a file below data.dir (.tsv and .csv, plain, .gz or .zst: source and target, or columns that a
    first line names; .parquet), a glob of files, a split of a prepared data set such as
    wmt14_translate/fr-en:train, or 'catalogues': the message catalogues of installed Python packages."""

    train: str = "wmt14_translate/fr-en:train"
    """Sources to train on, separated by commas. With SOURCE=SHARE for each: its share of the pairs of an
    epoch."""
    validation: str = "wmt14_translate/fr-en:validation"
    """Sources to evaluate on during training; empty: data.held_out of the training pairs, chosen by hash."""
    test: str = "wmt14_translate/fr-en:test"
    """Sources that training never reads, each a set; may be empty."""
    source: str = "en"
    """Language to translate from."""
    target: str = "fr"
    """Language to translate to."""
    dir: Optional[str] = None
    """Folder of the sources, such as `prepare` wrote it; None: TFDS's default."""
    tokenizer: Optional[str] = None
    """Joint byte-level BPE to load (tokenizer.json); None: train one on these pairs."""
    sequence_length: int = 256
    """Most tokens of a sentence, including its end; longer pairs are left out of training."""
    max_ratio: float = 2.0
    """Pairs with one side more than this many times longer than the other (in characters, 10 added to both)
    are left out of training."""
    max_shapes: int = 32
    """Without packing, most shapes of training batches: fewer compile faster but need more padding. About 25
    keep padding below 10 %; a small data set gets fewer, one for every three updates of an epoch."""
    packing: bool = True
    """Several pairs to a row, as T2T packs them, kept apart by segments: all training batches have one shape,
    and 1 to 3 % of padding. Off: one pair a row, in up to max_shapes shapes, each of which is compiled."""
    held_out: float = 0.005
    """Share of the training pairs that is held out to evaluate on if data.validation is empty."""
    seed: int = 0
    """Chooses the held-out pairs and the sample for the tokenizer, independently of the seed of the run."""
    cache_dir: str = "~/.cache/tlc_jax"
    """Folder for tokenised pairs, by content, which later runs use again."""

    def __post_init__(self) -> None:
        _check_common(self)
        check(self.max_shapes >= 1, f"data.max_shapes must be at least 1, not {self.max_shapes}")
        check(self.max_ratio > 1, f"data.max_ratio must be above 1, not {self.max_ratio}")
        check(bool(self.train.strip(" ,")), "data.train names no source")
        check(self.source != self.target, f"data.source and data.target are both {self.source!r}")

    @property
    def source_names(self) -> tuple[str, ...]:
        """What names the data, below data.dir or in a catalogue of data sets."""
        sources = (self.train, self.validation, self.test)
        return tuple(name.strip() for text in sources for name in text.split(","))

    @property
    def row_length(self) -> int:
        """Tokens on the longer side of the largest row. With packing, a multiple of 64 and at least a fifth
        more than a sentence may have, so that short pairs fill the rest."""
        return -(-self.sequence_length * 6 // (5 * 64)) * 64 if self.packing else self.sequence_length


def _check_common(data: Union[DataConfig, PairsConfig]) -> None:
    check_types(data)
    check(data.sequence_length >= 8, f"data.sequence_length must be at least 8, not {data.sequence_length}")
    check(0 < data.held_out < 1, f"data.held_out must be in (0, 1), not {data.held_out}")
    check(data.tokenizer != "", "data.tokenizer is empty: name a file, or leave the option out")
