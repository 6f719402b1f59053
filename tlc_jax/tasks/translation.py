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
from tlc_jax.data.pairs.pair_batches import (
    EncodedPairs,
    PairBatches,
    Places,
    Shape,
    Stretch,
    gather,
    rows_of_batch,
)
from tlc_jax.data.pairs.pair_packing import PackedPairs
from tlc_jax.data.pairs.pair_sources import TRAIN
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.tasks.base import AbstractBatch, Batch, HostBatch, RowsOf, Sums, at_targets, prediction_loss
from tlc_jax.tasks.bleu import check_language, sacrebleu_score
from tlc_jax.tasks.decoder import Decoder

_EVALUATION_SHAPES = 6  # more cost more to compile than pads
_FEW_SHAPES, _UPDATES_A_SHAPE = 8, 3  # a shape that is rare is not worth its compilation


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
        self.packed, self._train = packed, packed.pairs(TRAIN)
        if settings.bleu_sentences:
            check_language(packed.manifest["languages"][1])  # before the first evaluation needs it
        self._decoder: Decoder | None = None
        self.tokens_per_step = 0.0
        if len(self._train):  # else the data were read to be evaluated on
            self._plan()

    def _plan(self) -> None:
        config, packed = self._config, self.packed
        updates = packed.manifest["tokens"][TRAIN]["target"] // config.batch_size
        shapes = packed.shapes()[: max(_FEW_SHAPES, updates // _UPDATES_A_SHAPE)]
        self._batches = self._batches_of(self._train, packed.stretches(), shapes)
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
        return tuple(self.packed.manifest["validation"])

    def reported_sets(self) -> tuple[str, ...]:
        return tuple(self.packed.manifest["test"])

    def evaluation_size(self, name: str) -> int:
        return self.packed.manifest["pairs"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        pairs = self.packed.pairs(name)
        stretch = Stretch(0, len(pairs), len(pairs))
        shapes = self.packed.shapes()[:_EVALUATION_SHAPES]
        batches = self._batches_of(pairs, [stretch], shapes, batch_size)
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
            self._decoder = self.decoder(beams=1)
        found = self._decoder.translate(params, [source for source, _ in pairs])
        references = [target for _, target in pairs]
        language = self.packed.manifest["languages"][1]
        return {"greedy_bleu": sacrebleu_score([best[0].text for best in found], references, language)}

    def decoder(self, beams: int) -> Decoder:
        longest = self._config.data.sequence_length
        mesh = make_mesh(self._config.mesh)
        return Decoder(self._model, self.packed.tokenizer(), mesh, longest=longest, beams=beams)

    def texts(self, name: str) -> list[tuple[str, str]]:
        """The lines of a set, source and reference."""
        return self.packed.texts(name)

    def baselines(self) -> dict[str, float]:
        return {}

    def facts(self) -> dict[str, str]:
        manifest = self.packed.manifest
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
        self, pairs: EncodedPairs, stretches: list[Stretch], shapes: list[Shape], tokens: int | None = None
    ) -> PairBatches:
        most = tokens or self._config.batch_size
        return PairBatches(pairs, stretches, shapes, most, self._settings.row_multiple)


def smoothing(logits: Float[Array, "batch length vocab"], batch: Batch, share: float) -> Float[Array, ""]:
    """What label smoothing adds to the cross-entropy: `share` of the probability is not at the target but
    spread over all other tokens (T2T; fairseq label_smoothed_cross_entropy)."""
    vocab, targets = logits.shape[-1], batch["targets"]
    picked = at_targets(logits, targets)
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
