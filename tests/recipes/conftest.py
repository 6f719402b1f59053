"""A finetuned classification that the tests of recovery share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.builders import documents
from tlc_jax import train
from tlc_jax.data.tokenizer import train_tokenizer

CONFIG = """
from tlc_jax.config import *

def get_config():
    return Config(
        model=ModelConfig(num_layers=2, hidden_size=32, head_size=8, vocab_size=300, max_positions=32),
        task=ClassificationConfig(dropout=0.0),
        data=DataConfig(dir={tables!r}, tokenizer={tokenizer!r}, sequence_length=32, held_out=0.2,
                        cache_dir={cache!r}),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        budget=BudgetConfig(steps=60),
        evaluation=EvaluationConfig(every_steps=None),
        checkpoint=CheckpointConfig(every_steps=5),
        batch_size=32,
        log_every=10,
    )
"""


def write_easy_tables(folder: Path, size: int = 400) -> Path:
    """Texts whose label is told by which words they are made of, with one exception in twenty."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = sorted({word for text in documents(50) for word in text.split()})[:40]
    for name, count in (("train", size), ("test", 60)):
        lines = ["text\tlabel"]
        for _ in range(count):
            label = int(rng.integers(2))
            own = words[:25] if label != (rng.random() < 0.05) else words[15:]
            lines.append(f"{' '.join(rng.choice(own, 8))}\t{('first', 'last')[label]}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="package")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finetuned classification `run`, and the `tables` that it has seen."""
    root = tmp_path_factory.mktemp("recovery")
    train_tokenizer(documents(100), 300).save(str(root / "tokenizer.json"))
    places = {
        "tables": str(write_easy_tables(root / "tables")),
        "tokenizer": str(root / "tokenizer.json"),
        "cache": str(root / "cache"),
    }
    (root / "tiny.py").write_text(CONFIG.format(**places))
    train.main(["--config", str(root / "tiny.py"), "--workdir", str(root / "run")])
    return root
