"""Writes translation.npz: weights, padded pairs and logits of Hugging Face's Pegasus in float64, with
Tensor2Tensor's table of positions and its LayerNorm epsilon.

pip install -e '.[interop]' && python tests/golden/make_translation.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHAPE = {"num_layers": 2, "hidden_size": 16, "head_size": 4, "vocab_size": 53, "feed_forward_size": 40}
EPSILON = 1e-6
LENGTHS = ((9, 7), (4, 12), (1, 1))  # of source and target, </s> included


def positions(length: int, hidden: int) -> np.ndarray:
    """T2T's get_timing_signal_1d, from its formula, one number at a time."""
    table = np.zeros((length, hidden))
    half = hidden // 2
    for place in range(length):
        for i in range(half):
            angle = place * np.exp(-i * np.log(1e4) / (half - 1))
            table[place, i], table[place, half + i] = np.sin(angle), np.cos(angle)
    return table


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """(source, target) [batch, length] int32, each ending with </s> (1) and padded with 0."""
    rng = np.random.default_rng(0)
    found = []
    for side in (0, 1):
        ids = np.zeros((len(LENGTHS), max(own[side] for own in LENGTHS)), np.int32)
        for row, own in enumerate(LENGTHS):
            ids[row, : own[side] - 1] = rng.integers(3, SHAPE["vocab_size"], own[side] - 1)
            ids[row, own[side] - 1] = 1
        found.append(ids)
    return found[0], found[1]


def pegasus_logits() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(state dict, logits [batch, length, vocab]), float64, from torch."""
    import torch
    import transformers

    hidden, heads = SHAPE["hidden_size"], SHAPE["hidden_size"] // SHAPE["head_size"]
    sides = {"layers": SHAPE["num_layers"], "attention_heads": heads, "ffn_dim": SHAPE["feed_forward_size"]}
    config = transformers.PegasusConfig(
        vocab_size=SHAPE["vocab_size"],
        d_model=hidden,
        max_position_embeddings=16,
        activation_function="relu",
        scale_embedding=True,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()},
    )
    torch.manual_seed(0)
    model = transformers.PegasusForConditionalGeneration(config).eval().double()
    table = torch.tensor(positions(16, hidden))
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # large enough that every term is felt
            if "embed_positions" in name:
                parameter.copy_(table)
            elif "_proj.bias" in name:
                parameter.zero_()
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
        embedding = model.lm_head.weight
        for part in (model.model.encoder, model.model.decoder, model.model):
            tokens = part.shared if part is model.model else part.embed_tokens
            tokens.weight.copy_(embedding)
            tokens.weight[0] = 0
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = EPSILON
        source, target = (torch.tensor(ids.astype(np.int64)) for ids in pairs())
        shifted = torch.nn.functional.pad(target[:, :-1], (1, 0), value=0)
        logits = model(
            input_ids=source, attention_mask=(source != 0).long(), decoder_input_ids=shifted
        ).logits
    return {name: value.numpy() for name, value in model.state_dict().items()}, logits.numpy()


if __name__ == "__main__":
    weights, logits = pegasus_logits()
    np.savez_compressed(Path(__file__).with_name("translation.npz"), logits=logits, **weights)
