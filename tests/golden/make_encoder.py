"""Writes encoder.npz: weights, padded input and logits of Hugging Face's RobertaPreLayerNorm in float32.

pip install -e '.[interop]' && python tests/golden/make_encoder.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHAPE = {"num_layers": 3, "hidden_size": 32, "head_size": 8, "vocab_size": 97, "max_positions": 16}
LENGTHS = (16, 11, 1)


def huggingface_logits() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(state dict, tokens [batch, length] int32, logits [batch, length, vocab] float32), from torch."""
    import torch
    import transformers

    config = transformers.RobertaPreLayerNormConfig(
        vocab_size=SHAPE["vocab_size"],
        hidden_size=SHAPE["hidden_size"],
        num_hidden_layers=SHAPE["num_layers"],
        num_attention_heads=SHAPE["hidden_size"] // SHAPE["head_size"],
        intermediate_size=4 * SHAPE["hidden_size"],
        max_position_embeddings=SHAPE["max_positions"] + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = transformers.RobertaPreLayerNormForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # large enough that every term is felt
            parameter.add_(0.2 * torch.randn_like(parameter))
            if "token_type" in name:
                parameter.zero_()
        tokens = torch.randint(4, SHAPE["vocab_size"], (len(LENGTHS), SHAPE["max_positions"]))
        for row, length in enumerate(LENGTHS):
            tokens[row, 0] = 0
            tokens[row, length:] = 1
        logits = model(tokens, attention_mask=(tokens != 1).long()).logits
    weights = {name: value.numpy() for name, value in model.state_dict().items() if "decoder" not in name}
    return weights, tokens.numpy().astype(np.int32), logits.numpy()


if __name__ == "__main__":
    weights, tokens, logits = huggingface_logits()
    np.savez_compressed(Path(__file__).with_name("encoder.npz"), tokens=tokens, logits=logits, **weights)
