"""Classification of texts and pairs of texts (paper 2.1; fairseq sentence_prediction)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from rich.console import Console

from tlc_jax.config import ClassificationConfig, Config, DataConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted, first_of, printable
from tlc_jax.core.schema import Name, checked
from tlc_jax.core.tree import Params
from tlc_jax.data.bucketing import Indices, Plan
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.labelled.example_batches import LENGTHS, example_buckets, fitted_lengths, gather
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.labelled.labelled_source import TRAIN, TUNING
from tlc_jax.data.labelled.labelled_tables import holds_tables
from tlc_jax.data.labelled.packed_examples import PackedExamples
from tlc_jax.data.recorded_roles import check_pad
from tlc_jax.data.tokenizer import ROBERTA
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder_family import ENCODER
from tlc_jax.models.flops import classification_update
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.sealed import MANIFEST, Damaged, read_manifest
from tlc_jax.tasks.base import (
    AbstractBatch,
    Batch,
    HostBatch,
    HostSums,
    Objective,
    RowsOf,
    Source,
    Sums,
    Task,
    TaskKind,
    check_fits,
    few,
    is_right,
    prediction_loss,
)
from tlc_jax.tasks.metric import ACCURACY, CONFUSION_METRICS, ExampleScores

_FEW_EXAMPLES = 100


class ClassificationObjective(Objective):
    """`loss` is the summed cross-entropy of examples in nats."""

    family = ENCODER

    def __init__(self, config: Config, classes: int):
        self._config, self.classes = config, classes
        self._settings = cast(ClassificationConfig, config.task)
        self._model = cast(ModelConfig, self._settings.model_in_use(config.model))

    def init(self, key: jax.Array) -> Params:
        return init_classifier(self._model, self.classes, key)

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "batch classes"]:
        return apply_classifier(
            self._model,
            params,
            batch["tokens"],
            classes=self.classes,
            head_dropout=self._settings.head_dropout,
            dropout_key=dropout_key,
            token_types=batch.get("token_types"),
        )

    def largest_batch(self) -> AbstractBatch:
        rows, length = self._config.batch_size, self._config.data.sequence_length
        tokens = jax.ShapeDtypeStruct((rows, length), np.int32)
        targets, weights = (jax.ShapeDtypeStruct((rows,), dtype) for dtype in (np.int32, np.float32))
        return {"tokens": tokens, "targets": targets, "weights": weights}

    def update_flops(self, batch: AbstractBatch) -> float:
        rows, length = batch["tokens"].shape
        return classification_update(self._model, rows, length, self.classes)


class Classification(ClassificationObjective, Task):
    """The objective on packed examples. Training evaluates on `tuning` only. The primary metric is the one
    that the data set names: accuracy, or another one of the confusion matrix."""

    def __init__(self, config: Config, examples: PackedExamples):
        self.label_names = tuple(examples.manifest["label_names"])
        super().__init__(config, len(self.label_names))
        self._packed = examples
        if examples.metric not in CONFUSION_METRICS:
            raise UserError(
                f"{examples.folder} names the metric {printable(examples.metric, 60)}, and this version "
                f"knows {', '.join(CONFUSION_METRICS)}: use the version that prepared it"
            )
        self.primary_metric = self._metric = CONFUSION_METRICS[examples.metric]
        check_fits(config, examples)
        check_pad(examples.roles, self._model.pad_id, f"the data in {examples.folder}")
        self.tokens_per_step = 0.0
        if examples.trains:  # else the data were read to be evaluated on
            self._train = examples.split(TRAIN)
            rows, longest = config.batch_size, config.data.sequence_length
            fitted = self._settings.lengths == "fitted"
            lengths = fitted_lengths(self._train.lengths, rows) if fitted else LENGTHS
            longest = min(longest, lengths[-1]) if fitted else longest
            self._buckets = example_buckets(self._train, rows, longest, lengths)
            self._batches_per_epoch = len(self._buckets.plan())
            self.tokens_per_step = int(self._train.lengths.sum()) / self._batches_per_epoch

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        shape, indices = self._buckets.of_step(self._config.seed, step)
        return gather(self._train, shape, indices[rows(len(indices))])

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        for shape, indices in self._buckets.samples():
            yield gather(self._train, shape, indices[rows(len(indices))])

    def evaluation_sets(self) -> tuple[str, ...]:
        return (TUNING,) if self._packed.trains else ()

    def reported_sets(self) -> tuple[str, ...]:
        return self._packed.reported

    def unlabelled_sets(self) -> tuple[str, ...]:
        return self._packed.unlabelled

    def notes(self) -> tuple[str, ...]:
        manifest = self._packed.manifest
        contradicting, trained_on = (_shown(manifest.get(key, {})) for key in ("contradicting", "trained_on"))
        tuning, share = manifest["examples"].get(TUNING, _FEW_EXAMPLES), self._config.data.held_out
        return (
            *manifest.get("notes", ()),
            *([f"texts with more than one label: {contradicting}"] if contradicting else []),
            *([f"examples to report on that are also trained on: {trained_on}"] if trained_on else []),
            *few("example", "kept to tune on", tuning, _FEW_EXAMPLES, share),
        )

    def evaluation_size(self, name: str) -> int:
        return self._packed.manifest["examples"][name]

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        examples, plan = self._packed.split(name), self._evaluation_plan(name, batch_size)
        for shape, indices in plan:
            yield gather(examples, shape, indices[rows(len(indices))])

    def evaluation_examples(self, name: str, batch_size: int) -> Iterator[Indices]:
        return (indices for _, indices in self._evaluation_plan(name, batch_size))

    def _evaluation_plan(self, name: str, batch_size: int) -> Plan:
        examples = self._packed.split(name)
        return example_buckets(examples, batch_size, self._config.data.sequence_length).plan()

    def targets(self, name: str) -> Integer[np.ndarray, "examples"]:
        """The class of each example of a set; NO_LABEL in a set without labels."""
        return np.asarray(self._packed.split(name).labels)

    def baseline(self, model: str, name: str) -> Integer[np.ndarray, "examples"] | None:
        """The classes that the baseline 'majority' or 'linear' predicts for a set; None where there was
        nothing to train it on."""
        return self._packed.baseline(model, name)

    def evaluation_sums(self, params: Params, batch: Batch) -> Sums:
        """Those of the loss; where the primary metric is not the accuracy, the confusion matrix too."""
        logits = self.logits(params, batch)
        _, sums = prediction_loss(logits, batch)
        if self._metric == ACCURACY:
            return sums
        predicted = jnp.argmax(logits, axis=-1)
        decided = is_right(logits, predicted)  # a tie, or NaN, is no class
        rows = jax.nn.one_hot(batch["targets"], self.classes) * batch["weights"][:, None]
        columns = jax.nn.one_hot(jnp.where(decided, predicted, self.classes), self.classes + 1)
        return {**sums, "confusion": rows.T @ columns}

    def metrics(self, sums: HostSums) -> dict[str, float]:
        results = {"loss": sums["loss"] / sums["weight"], "accuracy": sums["correct"] / sums["weight"]}
        if "confusion" in sums:
            results[self._metric.name] = self._metric.of_confusion(sums["confusion"])
        return results

    def example_scores(self, params: Params, batch: Batch) -> ExampleScores:
        """1 for each example that is predicted right, 0 for the others."""
        right = batch["weights"] * is_right(self.logits(params, batch), batch["targets"])
        return ExampleScores(right, batch["weights"])

    def baselines(self) -> dict[str, float]:
        stored = self._packed.manifest["baselines"]
        results = {f"{name}/{key}": value for name, values in stored.items() for key, value in values.items()}
        if self._metric != ACCURACY:
            results |= self._baseline_metrics()
        return results

    def _baseline_metrics(self) -> dict[str, float]:
        """The primary metric of the baselines, of which only the accuracy is stored."""
        results = {}
        for name in self._packed.manifest["baselines"]:
            for model in ("majority", "linear"):
                if (predicted := self.baseline(model, name)) is not None:
                    confusion = np.zeros((self.classes, self.classes + 1))
                    np.add.at(confusion, (self.targets(name), predicted), 1)
                    value = self._metric.of_confusion(confusion)
                    results[f"{name}/{model}_{self._metric.name}"] = value
        return results

    def facts(self) -> dict[str, str]:
        manifest = self._packed.manifest
        sizes = ", ".join(f"{name} {size:,}" for name, size in manifest["examples"].items())
        cut = f"{sum(manifest['truncated'].values()):,} cut at {manifest['sequence_length']} tokens"
        return {
            "data": manifest["source"],
            "examples": f"{sizes}; {cut}{self._about_padding()}",
            "labels": first_of(self.label_names, 6),
        }

    def _about_padding(self) -> str:
        """How much of the batches of an epoch is padding; '' where there is nothing to train on."""
        if not self._packed.trains:
            return ""
        lengths, share = len(self._buckets.samples()), self._buckets.padding(self._config.seed)
        return f"; batches of {counted(lengths, 'length')}, {100 * share:.1f} % padding"

    def epochs(self, step: int) -> float:
        return step / self._batches_per_epoch


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


class ClassificationKind(TaskKind[PackedExamples]):
    name = "classification"
    hub_task = "text-classification"
    uses = ("predict . TEXTS", "evaluate . --data.dir DATA")
    python_use = "print(model.predict(TEXTS))"
    config_type = ClassificationConfig
    data_type = PackedExamples
    tokenizer_layout = ROBERTA
    trains_tokenizer = False

    def source(self, config: Config) -> Source:
        return open_labelled(cast(DataConfig, config.data))

    def prepare(
        self,
        config: Config,
        console: Console,
        label_names: tuple[str, ...] | None = None,
        *,
        pretrained: bool = False,
    ) -> PackedExamples:
        data, limit = cast(DataConfig, config.data), cast(ClassificationConfig, config.task).max_examples
        size, pad = config.model.vocab_size, cast(ModelConfig, config.model).pad_id
        return prepare_examples(data, size, console, limit, label_names, pretrained=pretrained, pad=pad)

    def data_in(self, config: Config, folder: str) -> DataConfig:
        data = cast(DataConfig, config.data)
        return dataclasses.replace(data, name="files") if holds_tables(folder) else data

    def task_names(self, config: Config) -> tuple[str, ...]:
        data_set = cast(DataConfig, config.data).name
        return (self.name, data_set, data_set.rpartition("/")[2])

    def label_names(self, config: Config, folder: AnyPath | None) -> tuple[str, ...]:
        if folder is None:
            return open_labelled(cast(DataConfig, config.data)).label_names
        return tuple(_of_manifest(folder, "label_names", list[Name]))

    def texts_per_example(self, folder: AnyPath) -> int | None:
        return _of_manifest(folder, "texts_per_example", Literal[1, 2] | None)

    def objective(self, config: Config, classes: int | None = None) -> ClassificationObjective:
        if classes is None:
            raise UserError("only the data of a classification say how many classes it has: give --classes")
        return ClassificationObjective(config, classes)

    def task(self, config: Config, data: PackedExamples) -> Classification:
        return Classification(config, data)


def _of_manifest(folder: AnyPath, key: str, kind: Any) -> Any:
    """A value of the manifest of prepared data, without opening the data."""
    try:
        return checked(read_manifest(folder).get(key), kind)
    except Damaged as damage:
        raise UserError(f"{damage}: put the run's own data back") from damage
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST} has no {key} ({error}): put the run's own data back") from error
