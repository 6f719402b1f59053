"""Hugging Face RobertaPreLayerNorm's names for our parameters (torch keeps linear weights as [out, in])."""

from __future__ import annotations

from typing import Any

import numpy as np

_PREFIX = "roberta_prelayernorm"
_LAYER = {
    "attention_norm": "attention.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "feed_forward_norm": "intermediate.LayerNorm",
    "feed_forward/expand": "intermediate.dense",
    "feed_forward/contract": "output.dense",
}


def params_from_huggingface(weights: dict[str, np.ndarray], num_layers: int) -> dict[str, Any]:
    """Our parameters from a `RobertaPreLayerNormForMaskedLM` state dict of numpy arrays."""

    def module(name: str) -> dict[str, np.ndarray]:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return {"kernel": weight.T, "bias": bias} if weight.ndim == 2 else {"scale": weight, "bias": bias}

    layers: dict[str, Any] = {}
    for ours, theirs in _LAYER.items():
        each = [module(f"{_PREFIX}.encoder.layer.{i}.{theirs}") for i in range(num_layers)]
        target = layers
        for part in ours.split("/"):
            target = target.setdefault(part, {})
        target.update({name: np.stack([one[name] for one in each]) for name in each[0]})
    return {
        "encoder": {
            "token_embedding": weights[f"{_PREFIX}.embeddings.word_embeddings.weight"],
            "position_embedding": weights[f"{_PREFIX}.embeddings.position_embeddings.weight"],
            "embedding_norm": module(f"{_PREFIX}.embeddings.LayerNorm"),
            "layers": layers,
            "final_norm": module(f"{_PREFIX}.LayerNorm"),
        },
        "mlm_head": {
            "dense": module("lm_head.dense"),
            "norm": module("lm_head.layer_norm"),
            "bias": weights["lm_head.bias"],
        },
    }
