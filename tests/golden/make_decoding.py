"""Writes decoding.npz: weights, sources, and what Hugging Face's generate makes of them: greedily, and with a
beam of 4 and length_penalty 0, four hypotheses of each with their scores.

pip install -e '.[interop]' && python tests/golden/make_decoding.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

SHAPE = {"num_layers": 2, "hidden_size": 32, "head_size": 8, "vocab_size": 61, "feed_forward_size": 48}
BEAMS, LIMIT = 4, 40
LENGTHS = (7, 3, 12, 1, 9, 5, 2, 10)


def weights() -> dict[str, np.ndarray]:
    """By our paths; large enough that sentences differ, with an end that is likely enough to be reached."""
    import jax

    from tlc_jax.config import EncoderDecoderConfig
    from tlc_jax.core.tree import flatten
    from tlc_jax.models.encoder_decoder import init_encoder_decoder

    params = init_encoder_decoder(EncoderDecoderConfig(**SHAPE), jax.random.key(5))
    rng = np.random.default_rng(0)
    found = {}
    for path, x in flatten(params).items():
        noise = 0.1 * rng.standard_normal(x.shape)
        found[path] = np.asarray(2.5 * np.asarray(x) + noise, np.float32)
    found["decoder/final_norm/bias"] += 1.4 * found["shared/token_embedding"][1]
    return found


def sources() -> np.ndarray:
    rng = np.random.default_rng(1)
    ids = np.zeros((len(LENGTHS), max(LENGTHS) + 1), np.int32)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = rng.integers(3, SHAPE["vocab_size"], length)
        ids[row, length] = 1
    return ids


def huggingface(folder: Path, source: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    import transformers

    model = transformers.PegasusForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor(source.astype(np.int64))
    own = {"input_ids": ids, "attention_mask": (ids != 0).long(), "max_new_tokens": LIMIT}
    with torch.no_grad():
        greedy = model.generate(**own, num_beams=1, do_sample=False)
        beam = model.generate(
            **own,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            length_penalty=0.0,
            early_stopping=False,
            output_scores=True,
            return_dict_in_generate=True,
        )

    def padded(tokens: torch.Tensor) -> np.ndarray:
        rows = tokens[:, 1:].numpy()  # without the start
        over = np.cumsum(rows == 1, axis=1) - (rows == 1) > 0  # behind the end generate writes ends
        return np.pad(np.where(over, 0, rows), ((0, 0), (0, LIMIT - rows.shape[1]))).astype(np.int32)

    return {
        "greedy": padded(greedy),
        "beams": padded(beam.sequences).reshape(len(source), BEAMS, LIMIT),
        "scores": beam.sequences_scores.numpy().reshape(len(source), BEAMS),
    }


def main() -> None:
    from tests.builders import sentence_pairs
    from tlc_jax.artifacts.pegasus import write_pegasus
    from tlc_jax.config import EncoderDecoderConfig
    from tlc_jax.core.stacked import join
    from tlc_jax.data.tokenizer import TRANSLATION, train_tokenizer
    from tlc_jax.models.encoder_decoder import sinusoids
    from tlc_jax.models.families import ENCODER_DECODER

    config, params, source = EncoderDecoderConfig(**SHAPE), weights(), sources()
    tokenizer = train_tokenizer([text for pair in sentence_pairs(50) for text in pair], 300, TRANSLATION)
    with tempfile.TemporaryDirectory() as name:
        names = ENCODER_DECODER.huggingface_names(config)
        folder, positions = Path(name), sinusoids(64, config.hidden_size)
        write_pegasus(folder, join(params), config, tokenizer.to_str().encode(), names, positions)
        found = huggingface(folder, source)
    ended = (found["beams"] == 1).any(axis=2)
    print(f"{ended.sum()} of {ended.size} hypotheses end; {len(np.unique(found['greedy'], axis=0))} differ")
    assert ended.all(), "one that does not end is counted by generate and not by us"
    np.savez_compressed(Path(__file__).with_name("decoding.npz"), source=source, **found, **params)


if __name__ == "__main__":
    main()
