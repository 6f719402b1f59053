"""Builders that tests share: a tiny run and comparisons of runs; generated text, tables and sentence
pairs."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow
import pytest

from tlc_jax import train as train
from tlc_jax.config import ModelConfig
from tlc_jax.core import tree
from tlc_jax.models.encoder import init_mlm
from tlc_jax.runs import step_time
from tlc_jax.runs.checkpoint import restore_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.training.metrics import read_metrics

CONFIG = """
from tlc_jax.config import *

def get_config():
    return Config(
        model=ModelConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(sequence_length=32, held_out=0.1),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        budget=BudgetConfig(steps=12),
        evaluation=EvaluationConfig(every_steps=6, max_rows=64),
        checkpoint=CheckpointConfig(every_steps=5),
        batch_size=16,
        micro_batch=8,
        log_every=4,
    )
"""
TRANSLATION = """
from tlc_jax.config import *

def get_config():
    return Config(
        model=EncoderDecoderConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=320),
        task=TranslationConfig(bleu_sentences=4),
        data=PairsConfig(train="one.tsv=2,two.tsv.gz=1", validation="validation.tsv", test="test.tsv",
                         sequence_length=40, max_shapes=2),
        optimizer=OptimizerConfig(learning_rate=0.5, beta2=0.997, epsilon=1e-9, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.0, noam_steps=8),
        budget=BudgetConfig(steps=12),
        evaluation=EvaluationConfig(every_steps=6),
        checkpoint=CheckpointConfig(every_steps=4, keep=3),
        batch_size=640,
        micro_batch="auto",
        memory_gib=4.0,
        log_every=4,
    )
"""
TIMES = {"training_seconds", "total_seconds"}


def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates are timed for as few steps as can be, sure or not."""
    monkeypatch.setattr(step_time, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(step_time, "MOST_TURNS", 0)


def lines(workdir: AnyPath) -> list[dict]:
    """The lines of metrics.jsonl without the times, which no two runs share."""
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in read_metrics(RunDir(workdir).metrics)
    ]


def parameters(workdir: AnyPath) -> dict[str, np.ndarray]:
    """The parameters of the newest checkpoint of an encoder, by path."""
    like = _like(RunDir(workdir).read_config().model)
    params, _, _ = restore_model(RunDir(workdir).checkpoints, like, pytest.fail)
    return {path: np.asarray(value) for path, value in tree.flatten(params).items()}


@functools.cache
def _like(model: ModelConfig) -> dict:
    """Other parameters of these shapes."""
    return jax.jit(lambda key: init_mlm(model, key))(jax.random.key(9))


def nested(flat: dict[str, np.ndarray]) -> dict:
    """The tree of parameters given by path."""
    params: dict = {}
    for path, value in flat.items():
        node = params
        *outer, last = path.split("/")
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = value
    return params


def assert_equal_runs(first: AnyPath, second: AnyPath) -> None:
    """Both runs have the same metrics and, bit for bit, the same parameters."""
    assert lines(first) == lines(second)
    expected = parameters(second)
    for path, value in parameters(first).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


_WORDS = """the a model layer weight large small train prune code step of in with and is was keeps loses
every width depth batch budget second token row mask""".split()


def documents(count: int, seed: int = 0) -> list[str]:
    """`count` documents of 3 to 8 lines, in which each word is mostly followed by one of three others."""
    rng = np.random.default_rng(seed)
    follows = rng.integers(0, len(_WORDS), (len(_WORDS), 3))
    texts = []
    for number in range(count):
        lines = []
        for _ in range(rng.integers(3, 9)):
            word = int(rng.integers(len(_WORDS)))
            line = []
            for _ in range(rng.integers(5, 15)):
                line.append(_WORDS[word])
                word = (
                    int(follows[word, rng.integers(3)])
                    if rng.random() < 0.9
                    else int(rng.integers(len(_WORDS)))
                )
            lines.append(" ".join(line).capitalize() + ".")
        texts.append("\n".join([f"Document {number}", *lines]))
    return texts


def sentence_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences and their "translations": each word reversed with an o appended, the last word first."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        words = [_WORDS[i] for i in rng.integers(0, len(_WORDS), rng.integers(2, 9))]
        pairs.append((" ".join(words), " ".join(f"{word[::-1]}o" for word in [words[-1], *words[:-1]])))
    return pairs


def write_pairs(folder: Path) -> Path:
    """Tables of sentence pairs: three training files of different kinds, a validation set and a test set."""
    pairs = [f"{source}\t{target}\n" for source, target in sentence_pairs(900)]
    (folder / "one.tsv").write_text("".join(pairs[:300]))
    swapped = "".join("\t".join(pair.strip().split("\t")[::-1]) + "\n" for pair in pairs[300:600])
    (folder / "two.tsv.gz").write_bytes(gzip.compress(f"fr\ten\n{swapped}".encode(), mtime=0))
    (folder / "three.tsv.zst").write_bytes(
        pyarrow.Codec("zstd").compress("".join(pairs[600:]).encode(), asbytes=True)
    )
    for name, seed in (("validation", 1), ("test", 2)):
        lines = [f"{source}\t{target}\n" for source, target in sentence_pairs(60, seed)]
        (folder / f"{name}.tsv").write_text("en\tfr\n" + "".join(lines))
    return folder


def write_tables(folder: Path, size: int = 400) -> Path:
    """Pairs of texts labelled by whether they share their first word: a training table, and a test set as
    JSON lines."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = sorted({word for text in documents(50) for word in text.split()})[:30]

    def rows(count: int) -> list[tuple[str, str, str]]:
        pairs = []
        for _ in range(count):
            first, second = (rng.choice(words, rng.integers(1, 12)).tolist() for _ in range(2))
            label = ("other", "same")[int(rng.integers(2))]
            if label == "same":
                second[0] = first[0]
            pairs.append((" ".join(first), " ".join(second), label))
        return pairs

    lines = ["text\ttext_b\tlabel", *("\t".join(row) for row in rows(size))]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    table = [dict(zip(("text", "text_b", "label"), row, strict=True)) for row in rows(51)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    return folder


def write_corpus(folder: Path, count: int = 400) -> Path:
    """Documents spread over a .txt, a .txt.gz and a .jsonl file."""
    texts = documents(count)
    third = count // 3
    (folder / "one.txt").write_text("\n\n".join(texts[:third]) + "\n")
    with gzip.open(folder / "two.txt.gz", "wt") as file:
        file.write("\n\n\n".join(texts[third : 2 * third]))
    lines = [json.dumps({"text": text, "id": i}) for i, text in enumerate(texts[2 * third :])]
    (folder / "three.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_tfds(
    folder: Path, name: str, features: dict[str, Any], splits: dict[str, list[dict[str, Any]]]
) -> Path:
    """A prepared TFDS dataset, such as `glue/sst2`, as TFDS itself writes it below `folder`. A feature is
    `str`, a numpy type, or the names of a label's classes in a tuple; `splits` are rows of features."""
    import tensorflow_datasets as tfds

    def feature(kind: Any) -> Any:
        if isinstance(kind, tuple):
            return tfds.features.ClassLabel(names=kind)
        return tfds.features.Text() if kind is str else kind

    dataset, _, config = name.partition("/")
    version = "1.0.0"

    class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=version)] if config else []
        name = dataset
        pkg_dir_path = None

        def _info(self):
            connectors = tfds.features.FeaturesDict({key: feature(kind) for key, kind in features.items()})
            return tfds.core.DatasetInfo(builder=self, features=connectors)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    Written(data_dir=folder, config=config or None, file_format="array_record").download_and_prepare()
    return folder


def machine(root: Path, *devices: str, pci: dict[str, str] | None = None) -> Path:
    """The device files and the PCI device of a machine."""
    for name in devices:
        (root / "dev" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "dev" / name).touch()
    for name, text in (pci or {}).items():
        (root / "sys/bus/pci/devices/0000:00:04.0").mkdir(parents=True, exist_ok=True)
        (root / "sys/bus/pci/devices/0000:00:04.0" / name).write_text(text)
    return root
