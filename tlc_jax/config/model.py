"""The options of the networks. Imports only the standard library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Optional

from tlc_jax.config.validation import check, check_fields, check_types

LARGEST = 2**30  # limit of every size: indices have 32 bits
Architecture = Literal["roberta-prelayernorm", "roberta", "xlm-roberta", "bert", "distilbert"]
DEEPEST = 1000  # layers; where layers share parameters, no tensor's shape bounds their number


@dataclass(frozen=True)
class TransformerConfig:
    """What the encoder and the encoder-decoder have in common."""

    num_layers: int = 12
    """Depth; an encoder-decoder has so many on each side."""
    hidden_size: int = 768
    """Width."""
    head_size: int = 64
    """Width of one attention head."""
    num_heads: Optional[int] = None
    """Attention heads; None: hidden_size / head_size."""
    feed_forward_size: Optional[int] = None
    """Width of the feed-forward layer; None: 4 x hidden_size."""
    vocab_size: int = 50265
    """Rows of the embedding; must be the tokenizer's size. Never padded."""
    dropout: float = 0.1
    """On embeddings and on each sub-layer's output."""
    attention_dropout: float = 0.1
    """On attention probabilities."""
    remat: Literal["products", "all", "none"] = "products"
    """What the backward pass recomputes: all but products with weights ('products'), whole layers ('all') or
    nothing ('none')."""
    compute_dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Type of activations and matrix products; parameters, normalisation, softmax and loss stay float32.
    'float64' serves to compare implementations and needs JAX_ENABLE_X64=1."""

    def __post_init__(self) -> None:
        check_types(self)
        sizes = ("num_layers", "hidden_size", "head_size", "num_heads", "feed_forward_size")
        check_fields(self, "model.", sizes, lambda size: size >= 1, "at least 1")
        check_fields(self, "model.", (*sizes, "vocab_size"), _indexable, f"at most {LARGEST:,}")
        check_fields(self, "model.", ("num_layers",), lambda depth: depth <= DEEPEST, f"at most {DEEPEST:,}")
        check(
            self.vocab_size >= 6,
            f"model.vocab_size must hold 5 special tokens and more, not {self.vocab_size}",
        )
        rates = ("dropout", "attention_dropout")
        check_fields(self, "model.", rates, lambda rate: 0 <= rate < 1, "in [0, 1)")
        fitting = math.gcd(self.hidden_size, self.head_size)
        check(
            self.num_heads is not None or self.head_size == fitting,
            f"model.hidden_size {self.hidden_size} is not a multiple of model.head_size {self.head_size}: "
            f"give --model.head-size {fitting} (for all sizes of a study --train.model.head-size {fitting}), "
            "another width, or model.num_heads",
        )

    @property
    def heads(self) -> int:
        return self.num_heads or self.hidden_size // self.head_size

    @property
    def feed_forward(self) -> int:
        return self.feed_forward_size or 4 * self.hidden_size

    @property
    def longest_input(self) -> Optional[int]:
        """Tokens of the longest input; None: any length."""
        return None


@dataclass(frozen=True)
class ModelConfig(TransformerConfig):
    """An encoder, by default the paper's: pre-norm RoBERTa (2.1)."""

    architecture: Architecture = "roberta-prelayernorm"
    """Which encoder of transformers this is: where its norms and dropout are, how positions are counted, and
    its classification head. 'roberta' and 'xlm-roberta' differ in nothing but their name."""
    max_positions: int = 128
    """Longest input, in tokens."""
    initializer_stddev: float = 0.02
    """Standard deviation of the initial weights at width 768 (fairseq)."""
    initializer_scaling: Literal["fixed", "width"] = "fixed"
    """'fixed': fairseq's; 'width': times sqrt(768 / hidden_size), which narrow models need."""
    shared_layers: Literal["none", "all", "attention"] = "none"
    """Parameters that all layers share (paper, Appendix C); 'attention' includes its norm."""
    pad_id: int = 1
    """The id of the tokenizer's pad."""
    position_offset: int = 2
    """Row of the first token's position in the table: pad_id + 1 in RoBERTa, 0 in BERT and DistilBERT."""
    token_types: int = 0
    """Rows of the table of token types, which tell the two texts of a pair apart; 0: no table."""
    norm_epsilon: float = 1e-5
    """Epsilon of layer normalisation: fairseq's; BERT has 1e-12."""
    tied_output: bool = True
    """Whether the embedding is the output matrix of masked language modelling, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, "model.", ("max_positions",), lambda size: size >= 1, "at least 1")
        check(
            0 <= self.pad_id < self.vocab_size,
            f"model.pad_id must be an id of the vocabulary, not {self.pad_id}",
        )
        check_fields(self, "model.", ("token_types",), lambda size: size >= 0, "at least 0")
        sizes = ("max_positions", "token_types")
        check_fields(self, "model.", sizes, _indexable, f"at most {LARGEST:,}")
        deviation, epsilon = self.initializer_stddev, self.norm_epsilon
        check(0 < deviation < math.inf, f"model.initializer_stddev must be positive, not {deviation}")
        check(0 < epsilon < 1, f"model.norm_epsilon must be in (0, 1), not {epsilon}")
        for name, wanted in self._given_by_architecture().items():
            check(
                getattr(self, name) == wanted,
                f"model.{name} is {getattr(self, name)}, but it is {wanted} in {self.architecture}: set "
                f"--model.{name.replace('_', '-')} {wanted}",
            )

    def _given_by_architecture(self) -> dict[str, float]:
        """The fields that the architecture leaves no choice, and their values."""
        if self.architecture == "bert":
            return {"position_offset": 0}
        if self.architecture == "distilbert":
            return {"position_offset": 0, "token_types": 0, "norm_epsilon": 1e-12}
        return {"position_offset": self.pad_id + 1}

    @property
    def pre_norm(self) -> bool:
        """Whether sub-layers are x + f(norm(x)), with a norm behind the last layer, or norm(x + f(x))."""
        return self.architecture == "roberta-prelayernorm"

    @property
    def attention_output_dropout(self) -> float:
        """On what attention adds to the state of a token."""
        return 0.0 if self.architecture == "distilbert" else self.dropout

    @property
    def longest_input(self) -> Optional[int]:
        return self.max_positions

    @property
    def stddev(self) -> float:
        """Standard deviation of the initial weights."""
        scaled = self.initializer_scaling == "width"
        return self.initializer_stddev * (math.sqrt(768 / self.hidden_size) if scaled else 1.0)


@dataclass(frozen=True)
class EncoderDecoderConfig(TransformerConfig):
    """Pre-norm encoder-decoder: Tensor2Tensor's transformer_base_v3 (paper 2.1), at its defaults."""

    num_layers: int = 6
    hidden_size: int = 512
    vocab_size: int = 32768
    activation_dropout: float = 0.1
    """Inside the feed-forward layers, after the ReLU (T2T relu_dropout)."""
    norm_epsilon: float = 1e-5
    """Epsilon of layer normalisation. 1e-5 exports exactly to Hugging Face; T2T's own is 1e-6."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share, epsilon = self.activation_dropout, self.norm_epsilon
        check(0 <= share < 1, f"model.activation_dropout must be in [0, 1), not {share}")
        check(0 < epsilon < 1, f"model.norm_epsilon must be in (0, 1), not {epsilon}")
        check(self.hidden_size % 2 == 0, f"model.hidden_size must be even, not {self.hidden_size}")
        check(self.hidden_size >= 4, f"model.hidden_size must be at least 4, not {self.hidden_size}")


def _indexable(size: int) -> bool:
    return size <= LARGEST
