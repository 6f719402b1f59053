"""Writes export.npz: what transformers makes of folders that tlc_jax exported.

python -m tests.golden.make_export write DIR     the folders, where tlc_jax is installed
python tests/golden/make_export.py read DIR      export.npz from them, where torch and transformers are
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = {"num_layers": 3, "hidden_size": 32, "head_size": 8, "vocab_size": 300, "max_positions": 16}
LABELS = ("no", "perhaps", "yes")
# of each exported model: what differs from SHAPE; all but the first classify
CASES: dict[str, dict[str, Any]] = {
    "mlm": {},
    "classification": {},
    "pruned": {"num_heads": 2, "feed_forward_size": 40},
    "shared": {"shared_layers": "attention", "num_heads": 3},
}
LENGTHS = (16, 11, 2)
TEXTS: tuple[tuple[str, ...], ...] = (
    ("The model keeps a large weight.",),
    ("",),
    ("  two spaces\nand a line, \u00e9\u4e16\U0001f600",),
    ("a <mask> and a</s>",),
    ("one text", "and another one"),
)


def tokens() -> np.ndarray:
    """[3, 16] int32: <s> first, pads last."""
    found = np.random.default_rng(1).integers(4, SHAPE["vocab_size"], (len(LENGTHS), SHAPE["max_positions"]))
    for row, length in enumerate(LENGTHS):
        found[row, 0] = 0
        found[row, length:] = 1
    return found.astype(np.int32)


def case(name: str) -> tuple[Any, dict[str, Any]]:
    """(ModelConfig, parameters): all of them drawn, large enough that every term is felt."""
    import jax

    from tlc_jax.config import ModelConfig
    from tlc_jax.core.tree import map_with_path
    from tlc_jax.models.classifier import init_classifier
    from tlc_jax.models.encoder import init_mlm

    config, key = ModelConfig(**SHAPE, **CASES[name]), jax.random.key(0)
    init = init_mlm if name == "mlm" else lambda config, key: init_classifier(config, len(LABELS), key)
    shapes = jax.eval_shape(lambda: init(config, key))
    rng = np.random.default_rng(0)

    def draw(path: str, x: Any) -> np.ndarray:
        return (path.endswith("scale") + 0.2 * rng.normal(size=x.shape)).astype(np.float32)

    return config, map_with_path(draw, shapes)


def write_model(
    folder: Path, params: dict[str, Any], config: ModelConfig, tokenizer: bytes, labels: tuple[str, ...] = ()
) -> None:
    from tlc_jax.artifacts.huggingface import write_huggingface
    from tlc_jax.models.families import ENCODER

    units = ENCODER.prunable_units(config)
    write_huggingface(folder, params, config, tokenizer, ENCODER.huggingface_names(config), units, labels)


def write(root: Path) -> None:
    from tests.builders import documents
    from tlc_jax.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(documents(100), SHAPE["vocab_size"]).to_str().encode()
    for name in CASES:
        config, params = case(name)
        (root / name).mkdir(parents=True)
        write_model(root / name, params, config, tokenizer, () if name == "mlm" else LABELS)


def read(root: Path) -> dict[str, np.ndarray]:
    """Logits of each case, and ids of each text by the tokenizers of the first two."""
    import torch
    import transformers

    found, ids = {}, torch.tensor(tokens()).long()
    for name in CASES:
        kind = "MaskedLM" if name == "mlm" else "SequenceClassification"
        auto = getattr(transformers, f"AutoModelFor{kind}")
        model, told = auto.from_pretrained(root / name, output_loading_info=True)
        assert type(model).__name__ == f"RobertaPreLayerNormFor{kind}"
        assert not any(told.values()), told
        assert model.dtype == torch.float32
        if name != "mlm":
            assert tuple(model.config.id2label[i] for i in range(len(LABELS))) == LABELS
        with torch.no_grad():
            found[name] = model.eval()(ids, attention_mask=(ids != 1).long()).logits.numpy()
    for name in ("mlm", "classification"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(root / name)
        assert tokenizer.model_max_length == SHAPE["max_positions"]
        assert tokenizer.mask_token_id == SHAPE["vocab_size"] - 1
        assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (1, 3)
        for i, text in enumerate(TEXTS):
            told = tokenizer(*text)
            assert told.keys() == {"input_ids", "attention_mask"}
            found[f"{name}_ids_{i}"] = np.array(told["input_ids"], np.int32)
    return found


if __name__ == "__main__":
    command, folder = sys.argv[1:]
    if command == "write":
        write(Path(folder))
    else:
        np.savez_compressed(Path(__file__).with_name("export.npz"), **read(Path(folder)))
