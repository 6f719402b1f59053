"""Translation (paper 3.1; Tensor2Tensor): every target token from those before it and the source."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlc_jax.config import Config, EncoderDecoderConfig, TranslationConfig
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.pair_batches import (
    EncodedPairs,
    PairBatches,
    Places,
    Shape,
    Stretch,
    gather,
    rows_of_batch,
)
from tlc_jax.data.pair_packing import PackedPairs
from tlc_jax.data.pairs import TRAIN
from tlc_jax.data.tokenizer import Tokenizer
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.tasks.base import AbstractBatch, Batch, HostBatch, RowsOf, Sums, prediction_loss
from tlc_jax.tasks.bleu import sacrebleu_score
from tlc_jax.tasks.decoder import Decoder

_EVALUATION_SHAPES = (
    4  # every fourth shape is enough for evaluation: the others cost more to compile than pads
)


class TranslationObjective:
    """`loss` is the summed cross-entropy of target tokens in nats, </s> among them. While training it is that
    against smoothed labels, without the constant that no parameter changes; what is reported is the plain
    one."""

    def __init__(self, config: Config, settings: TranslationConfig):
        assert isinstance(config.model, EncoderDecoderConfig)
        self._config, self._settings, self._model = config, settings, config.model

    def init(self, key: jax.Array) -> Params:
        return init_encoder_decoder(self._model, key)

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        logits = self.logits(params, batch, dropout_key)
        total, sums = prediction_loss(logits, batch)
        if dropout_key is None:
            return total, sums
        return total + smoothing(logits, batch, self._settings.label_smoothing), sums

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch length vocab"]:
        return apply_encoder_decoder(
            self._model, params, batch["source"], batch["targets"], dropout_key=dropout_key
        )

    def largest_batch(self) -> AbstractBatch:
        length, multiple = self._config.data.sequence_length, self._settings.row_multiple
        shape = (rows_of_batch(self._config.batch_size, length, multiple), length)
        ids, weights = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (np.int32, np.float32))
        return {"source": ids, "targets": ids, "weights": weights}


class Translation(TranslationObjective):
    """The objective on cleaned pairs, and BLEU."""

    def __init__(self, config: Config, settings: TranslationConfig, packed: PackedPairs):
        super().__init__(config, settings)
        self._packed, self._train = packed, packed.pairs(TRAIN)
        self._batches = self._batches_of(self._train, packed.stretches(), config.batch_size)
        self._decoder: Decoder | None = None
        plan = self._batches.plan_of_epoch(config.seed, 0)
        self._tokens = self._batches.tokens(plan)
        self._batches_per_epoch = len(plan.places)
        self.tokens_per_step = self._tokens[1] / self._batches_per_epoch  # of targets

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        shape, places = self._batches.of_step(self._config.seed, step)
        return _batch(self._train, shape, places[rows(len(places))])

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        for shape, size in zip(self._batches.shapes, self._batches.rows, strict=True):
            yield _batch(self._train, shape, np.full(size, -1)[rows(size)])

    def evaluation_sets(self) -> tuple[str, ...]:
        return tuple(self._packed.manifest["validation"])

    def reported_sets(self) -> tuple[str, ...]:
        return tuple(self._packed.manifest["test"])

    def evaluation_size(self, name: str) -> int:
        return self._packed.manifest["pairs"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        pairs = self._packed.pairs(name)
        stretch = Stretch(0, len(pairs), len(pairs))
        batches = self._batches_of(pairs, [stretch], batch_size, every=_EVALUATION_SHAPES)
        plan = batches.plan(np.arange(len(pairs)), None)
        for number, places in zip(plan.shapes, plan.places, strict=True):
            yield _batch(pairs, batches.shapes[number], places[rows(len(places))])

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        loss = sums["loss"] / sums["weight"]
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss": loss, "perplexity": perplexity, "accuracy": sums["correct"] / sums["weight"]}

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        count = self._settings.bleu_sentences
        if not count or name != self.evaluation_sets()[0]:
            return {}
        pairs = self.texts(name)[:count]
        if self._decoder is None:  # one for all evaluations of a run: it compiles
            self._decoder = Decoder(self._model, self.tokenizer(), beams=1)
        found = self._decoder.translate(params, [source for source, _ in pairs])
        references = [target for _, target in pairs]
        return {"greedy_bleu": sacrebleu_score([best[0].text for best in found], references)}

    def tokenizer(self) -> Tokenizer:
        return self._packed.tokenizer()

    def texts(self, name: str) -> list[tuple[str, str]]:
        """The lines of a set, source and reference."""
        return self._packed.texts(name)

    def baselines(self) -> dict[str, float]:
        return {}

    def facts(self) -> dict[str, str]:
        manifest = self._packed.manifest
        languages, digest = " to ".join(manifest["languages"]), manifest["tokenizer_sha256"]
        left_out = {
            reason: sum(own["left out"][reason] for own in manifest["sources"])
            for reason in manifest["sources"][0]["left out"]
        }
        told = [
            f"{own['pairs']:,} of {own['name']}" + (f" (share {own['share']:g})" if own["share"] else "")
            for own in manifest["sources"]
        ]
        sets = [*manifest["validation"], *manifest["test"]]
        return {
            "data": f"{languages}, identity {manifest['identity'][:16]}",
            "pairs": ", ".join(told),
            "left out": ", ".join(f"{reason} {size:,}" for reason, size in left_out.items()),
            "evaluated": ", ".join(f"{name} {manifest['pairs'][name]:,}" for name in sets),
            "too long, cut": ", ".join(f"{name} {manifest['truncated'][name]:,}" for name in sets),
            "tokenizer": f"joint byte-level BPE, {manifest['vocab_size']:,} entries, {digest[:16]}",
            "epoch": f"{self._batches_per_epoch:,} updates, {self._tokens[0]:,} tokens, "
            f"{self._tokens[1]:,} of them in targets",
            "padding": f"{100 * self._batches.padding(self._config.seed):.1f} % of the tokens computed, in "
            f"{len(self._batches.shapes)} shapes",
        }

    def epochs(self, step: int) -> float:
        return step / self._batches_per_epoch

    def _batches_of(
        self, pairs: EncodedPairs, stretches: list[Stretch], tokens: int, every: int = 1
    ) -> PairBatches:
        shapes = [(source, target) for source, target in self._packed.manifest["shapes"]]
        shapes = shapes[::-1][::every][::-1]  # the largest, which holds every pair, is among them
        return PairBatches(pairs, stretches, shapes, tokens, self._settings.row_multiple)


def smoothing(logits: Float[Array, "batch length vocab"], batch: Batch, share: float) -> Float[Array, ""]:
    """What label smoothing adds to the cross-entropy: `share` of the probability is not at the target but
    spread over all other tokens (T2T; fairseq label_smoothed_cross_entropy)."""
    vocab, targets = logits.shape[-1], batch["targets"]
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    others = (jnp.sum(logits, axis=-1) - picked) / (vocab - 1)
    return share * jnp.sum(batch["weights"] * (picked - others))


def _batch(pairs: EncodedPairs, shape: Shape, places: Places) -> HostBatch:
    found = gather(pairs, shape, places)
    targets = found["target"]
    return {
        "source": found["source"],
        "targets": targets,
        "weights": (targets != PAD).astype(np.float32),
    }
