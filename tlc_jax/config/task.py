"""What a run computes: one dataclass of options for each kind of task, with what follows from it for the rest
of a config. The kinds themselves are in `tasks/`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Optional

from tlc_jax.config.data import DataConfig, PairsConfig
from tlc_jax.config.model import EncoderDecoderConfig, ModelConfig, TransformerConfig
from tlc_jax.config.validation import check, check_fields, check_types


@dataclass(frozen=True)
class TaskConfig:
    """What every kind of task says of the rest of its config."""

    model_type: ClassVar[type[TransformerConfig]] = ModelConfig
    data_type: ClassVar[type] = DataConfig
    rows_field: ClassVar[str] = "batch_size"
    """Field with the number of rows that devices x micro-batches must divide."""
    micro_rows_field: ClassVar[str] = "micro_batch"
    """The same for the devices alone."""
    takes_attention_window: ClassVar[bool] = False
    """Whether training may begin with a narrow attention window."""
    takes_data_share: ClassVar[bool] = True
    """Whether a share of the training data may be trained on."""
    takes_layer_decay: ClassVar[bool] = True
    """Whether its network is layers of one stack, whose learning rates may fall downwards."""

    def rows_to_split(self, batch_size: int) -> int:
        """The value of `rows_field`."""
        return batch_size

    def check_batch(self, batch_size: int, micro_batches: int, sequence_length: int) -> None:
        """ValueError where no batch can be made with these."""

    def model_in_use(self, model: TransformerConfig) -> TransformerConfig:
        """The model's config as the task trains it, with a dropout of its own if it has one."""
        return model

    def without_decoding(self) -> TaskConfig:
        """The same task, whose evaluations while training decode nothing."""
        return self


@dataclass(frozen=True)
class MlmConfig(TaskConfig):
    """Masked language modelling as in fairseq's masked_lm (paper 2.1)."""

    takes_attention_window: ClassVar[bool] = True
    mask_rate: float = 0.15
    """Share of the tokens of a row that are predicted; of these 80 % become <mask>, 10 % a random token."""

    def __post_init__(self) -> None:
        check_types(self)
        check(0 < self.mask_rate <= 1, f"task.mask_rate must be in (0, 1], not {self.mask_rate}")


@dataclass(frozen=True)
class ClassificationConfig(TaskConfig):
    """Classification of a text or a pair of texts (paper 2.1; fairseq sentence_prediction)."""

    takes_data_share: ClassVar[bool] = False
    max_examples: Optional[int] = None
    """Train on so many examples, the same ones for every seed; None: on all of them."""
    dropout: float = 0.1
    """In the encoder, in place of the pretrained model's: on outputs of sub-layers and on attention."""
    head_dropout: float = 0.0
    """Before both layers of the head (fairseq pooler_dropout)."""
    lengths: Literal["fitted", "doubling"] = "fitted"
    """Lengths that the examples of a training batch are padded to: up to 12, 'fitted' to the training set so
    that few tokens are padding, or 'doubling' from 16 on, as in version 0.1.0; each is compiled."""

    def __post_init__(self) -> None:
        check_types(self)
        check_fields(self, "task.", ("max_examples",), lambda count: count >= 1, "at least 1")
        check_fields(self, "task.", ("dropout", "head_dropout"), lambda rate: 0 <= rate < 1, "in [0, 1)")

    def model_in_use(self, model: TransformerConfig) -> TransformerConfig:
        return replace(model, dropout=self.dropout, attention_dropout=self.dropout)


@dataclass(frozen=True)
class TranslationConfig(TaskConfig):
    """Translation as Tensor2Tensor trains it (paper 2.1)."""

    model_type: ClassVar[type[TransformerConfig]] = EncoderDecoderConfig
    data_type: ClassVar[type] = PairsConfig
    takes_layer_decay: ClassVar[bool] = False
    rows_field: ClassVar[str] = "task.row_multiple"
    micro_rows_field: ClassVar[str] = "task.row_multiple over the number of micro-batches"

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

    def rows_to_split(self, batch_size: int) -> int:
        return self.row_multiple

    def without_decoding(self) -> TranslationConfig:
        return replace(self, bleu_sentences=0)

    def check_batch(self, batch_size: int, micro_batches: int, sequence_length: int) -> None:
        rows = self.row_multiple
        check(
            rows % micro_batches == 0,
            f"task.row_multiple {rows} is not a multiple of {micro_batches} micro-batches",
        )
        check(
            batch_size >= rows * sequence_length,
            f"batch_size {batch_size} tokens do not hold task.row_multiple {rows} rows of "
            f"data.sequence_length {sequence_length} tokens",
        )
