"""What a run computes: one dataclass of options for each kind of task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class MlmConfig:
    """Masked language modelling as in fairseq's masked_lm (paper 3.1)."""

    mask_rate: float = 0.15
    """Share of the tokens of a row that are predicted; of these 80 % become <mask>, 10 % a random token."""

    def __post_init__(self) -> None:
        check_types(self)
        check(0 < self.mask_rate <= 1, f"task.mask_rate must be in (0, 1], not {self.mask_rate}")


@dataclass(frozen=True)
class ClassificationConfig:
    """Classification of a text or a pair of texts (paper 3.1; fairseq sentence_prediction)."""

    max_examples: Optional[int] = None
    """Train on so many examples, the same ones for every seed; None: on all of them."""
    dropout: float = 0.1
    """In the encoder, in place of the pretrained model's: on outputs of sub-layers and on attention."""
    head_dropout: float = 0.0
    """Before both layers of the head (fairseq pooler_dropout)."""

    def __post_init__(self) -> None:
        check_types(self)
        limit = self.max_examples
        check(limit is None or limit >= 1, f"task.max_examples must be at least 1, not {limit}")
        for name in ("dropout", "head_dropout"):
            check(0 <= getattr(self, name) < 1, f"task.{name} must be in [0, 1), not {getattr(self, name)}")


@dataclass(frozen=True)
class TranslationConfig:
    """Translation as Tensor2Tensor trains it (paper 3.1)."""

    label_smoothing: float = 0.1
    """Probability that the loss gives to all other tokens together, uniformly."""
    row_multiple: int = 8
    """Every batch has a multiple of so many rows: devices x micro-batches must divide it."""
    bleu_sentences: int = 0
    """Translate the first so many sentences of the validation set at each evaluation, greedily, and report
    BLEU; 0: none."""

    def __post_init__(self) -> None:
        check_types(self)
        share = self.label_smoothing
        check(0 <= share < 1, f"task.label_smoothing must be in [0, 1), not {share}")
        check(self.row_multiple >= 1, f"task.row_multiple must be at least 1, not {self.row_multiple}")
        check(
            self.bleu_sentences >= 0, f"task.bleu_sentences must not be negative, not {self.bleu_sentences}"
        )
