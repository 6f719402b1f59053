"""Writes encoders.tar.xz: small encoders as transformers saves them, and what it computes with them.

pip install -e '.[interop]' && python -m tests.golden.make_encoders

Folders are of different classes, types of weights and numbers of files, as those of strangers are.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("encoders.tar.xz")
VOCAB, POSITIONS, CLASSES = 32, 12, 3
LENGTHS = (12, 8, 2)


@dataclass(frozen=True)
class Case:
    """A folder. `options` are those of its configuration beside the sizes."""

    kind: str
    """What its classes begin with."""
    head: str
    """What its class ends with; Model: none."""
    dtype: str
    options: dict[str, Any] = field(default_factory=dict)
    shard_bytes: int | None = None


_BERT_TYPES = {"type_vocab_size": 2}
CASES = {
    "bert-mlm": Case("Bert", "ForMaskedLM", "float16", _BERT_TYPES),
    "bert-classification": Case("Bert", "ForSequenceClassification", "bfloat16", _BERT_TYPES, 6000),
    "bert-alone": Case("Bert", "Model", "float32", {**_BERT_TYPES, "pad_token_id": 5}),
    "bert-pretraining": Case("Bert", "ForPreTraining", "float16", _BERT_TYPES),
    "roberta-mlm": Case("Roberta", "ForMaskedLM", "bfloat16", {"tie_word_embeddings": False}, 5000),
    "roberta-classification": Case("Roberta", "ForSequenceClassification", "float16", {"type_vocab_size": 1}),
    "xlm-roberta-mlm": Case("XLMRoberta", "ForMaskedLM", "float16", {"layer_norm_eps": 1e-5}),
    "distilbert-mlm": Case("DistilBert", "ForMaskedLM", "float16"),
    "distilbert-classification": Case("DistilBert", "ForSequenceClassification", "float16"),
    "roberta-prelayernorm-mlm": Case("RobertaPreLayerNorm", "ForMaskedLM", "float16"),
    "roberta-prelayernorm-classification": Case(
        "RobertaPreLayerNorm", "ForSequenceClassification", "bfloat16"
    ),
}


def _config(case: Case) -> Any:
    import transformers

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 20,
    }
    if case.kind == "DistilBert":
        sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20}
    offset = 0 if case.kind in ("Bert", "DistilBert") else 2
    labels = {"id2label": {i: f"class {i}" for i in range(CLASSES)}} if "Classification" in case.head else {}
    return getattr(transformers, f"{case.kind}Config")(
        vocab_size=VOCAB, max_position_embeddings=POSITIONS + offset, **sizes, **labels, **case.options
    )


def inputs(pad: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, token types) [3, 12] int32, padded behind."""
    rng = np.random.default_rng(0)
    ids = rng.integers(6, VOCAB, (len(LENGTHS), POSITIONS))
    types = np.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, length:] = pad
        types[row, length // 2 : length] = 1
    return ids.astype(np.int32), types.astype(np.int32)


def save(folder: Path, case: Case) -> None:
    """Write a folder with random weights, large enough that every term is felt."""
    import torch
    import transformers

    torch.manual_seed(len(folder.name))
    model = getattr(transformers, f"{case.kind}{case.head}")(_config(case))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    shards = {"max_shard_size": case.shard_bytes} if case.shard_bytes else {}
    model.to(getattr(torch, case.dtype)).save_pretrained(folder, **shards)


def computed(folder: Path) -> dict[str, np.ndarray]:
    """What transformers computes with a folder, in float32: the last hidden states, logits if there are any,
    and the output of a pooler."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    (name,) = config.architectures
    model, told = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told.values()), told
    ids, types = (torch.tensor(x).long() for x in inputs(config.pad_token_id))
    given = {"attention_mask": (ids != config.pad_token_id).long()}
    if getattr(config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = types
    with torch.no_grad():
        base = model.eval().base_model(ids, **given)
        found = {"hidden": base.last_hidden_state}
        if getattr(base, "pooler_output", None) is not None:
            found["pooled"] = base.pooler_output
        if not name.endswith("Model"):
            result = model(ids, **given)
            found["logits"] = result.prediction_logits if "PreTraining" in name else result.logits
    return {key: x.numpy() for key, x in found.items()}


def unpacked(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Makes the folders below `folder`; returns what transformers computes with each."""
    with tarfile.open(FILE) as archive:
        archive.extractall(folder, filter="data")
    return {name: dict(np.load(folder / name / "computed.npz")) for name in CASES}


def _write() -> None:
    with tempfile.TemporaryDirectory() as root:
        for name, case in CASES.items():
            save(Path(root) / name, case)
            results: dict[str, Any] = computed(Path(root) / name)
            np.savez(Path(root) / name / "computed.npz", **results)
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path in sorted(Path(root).rglob("*")):
                about = tarfile.TarInfo(str(path.relative_to(root)))
                if path.is_file():
                    about.size = path.stat().st_size
                    archive.addfile(about, io.BytesIO(path.read_bytes()))
    FILE.write_bytes(lzma.compress(content.getvalue(), preset=9))


if __name__ == "__main__":
    _write()
