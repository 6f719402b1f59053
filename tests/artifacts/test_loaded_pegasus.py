"""An exported translation model, loaded by transformers and converted by CTranslate2."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.make_translation import LENGTHS, SHAPE, pairs
from tlc_jax.artifacts.pegasus import write_pegasus
from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core import tree
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder, sinusoids
from tlc_jax.models.families import ENCODER_DECODER

pytestmark = pytest.mark.interop
torch = pytest.importorskip("torch", reason="needs the extra `interop`")
transformers = pytest.importorskip("transformers", reason="needs the extra `interop`")

CONFIG = EncoderDecoderConfig(**SHAPE, norm_epsilon=1e-5)
TOKENS = ["<pad>", "</s>", "<unk>", *(chr(97 + i) for i in range(50))]


@pytest.fixture(scope="module")
def params() -> dict:
    start = init_encoder_decoder(CONFIG, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), start)


@pytest.fixture(scope="module")
def folder(params: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pegasus")
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    names, positions = ENCODER_DECODER.huggingface_names(CONFIG), sinusoids(16, CONFIG.hidden_size)
    write_pegasus(root, params, CONFIG, json.dumps(tokenizer).encode(), names, positions)
    return root


def test_logits_are_ours_and_the_embedding_is_there_once(params: dict, folder: Path) -> None:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    matrices = (
        model.lm_head,
        model.model.shared,
        model.model.encoder.embed_tokens,
        model.model.decoder.embed_tokens,
    )
    assert len({own.weight.data_ptr() for own in matrices}) == 1
    rest = sum(x.size for name, x in tree.flatten(params).items() if name != "shared/token_embedding")
    embedding = SHAPE["vocab_size"] * SHAPE["hidden_size"]
    small = 2 * 16 * 16 + 8 * 6 * 16 + SHAPE["vocab_size"]  # positions of both sides, biases of attention
    assert (folder / "model.safetensors").stat().st_size < 4 * (rest + embedding + small) + 12_000
    source, target = pairs()
    begun = np.pad(target, ((0, 0), (1, 0)))[:, :-1]
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor(source).long(),
            attention_mask=torch.tensor(source != 0).long(),
            decoder_input_ids=torch.tensor(begun).long(),
        ).logits.numpy()
    ours = np.asarray(
        apply_encoder_decoder(CONFIG, jax.tree.map(jnp.asarray, params), *map(jnp.asarray, pairs()))
    )
    assert np.abs(found).max() > 1
    for row, (_, length) in enumerate(LENGTHS):
        np.testing.assert_allclose(found[row, :length], ours[row, :length], rtol=0, atol=1e-5)


def test_ctranslate2_translates_as_transformers_does(folder: Path, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(tmp_path / "converted"))
    translator = ctranslate2.Translator(str(tmp_path / "converted"), device="cpu", compute_type="float32")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    for row, (length, _) in enumerate(LENGTHS[:2]):  # of no words CTranslate2 makes none
        source = pairs()[0][row, :length]
        tokens = [TOKENS[i] for i in source]
        best = translator.translate_batch([tokens], beam_size=1, max_decoding_length=12)[0].hypotheses[0]
        ids = model.generate(torch.tensor(source[None]).long(), num_beams=1, max_length=13)[0].tolist()
        expected = [TOKENS[i] for i in ids if i > 1]
        assert best == expected
