"""Encoders that transformers saved: the same hidden states and logits here, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.data.encoder_tokenizers import xlm_roberta
from tests.golden.make_encoders import CASES, CLASSES, LENGTHS, Case, computed, inputs, save, unpacked
from tests.pretrained_folders import drawn
from tlc_jax.artifacts.encoder_folder import EncoderFolder, open_encoder_folder
from tlc_jax.artifacts.huggingface import write_huggingface
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import flatten
from tlc_jax.models.classifier import apply_classifier
from tlc_jax.models.encoder import apply_mlm, encode, init_mlm
from tlc_jax.models.families import ENCODER

WITH_HEAD = ("ForMaskedLM", "ForSequenceClassification")
Golden = tuple[Path, dict[str, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    root = tmp_path_factory.mktemp("encoders")
    return root, unpacked(root)


def opened(folder: Path) -> EncoderFolder:
    return open_encoder_folder(folder, ENCODER.huggingface_names)


def assert_like_transformers(folder: Path, expected: dict[str, np.ndarray]) -> None:
    """At real tokens: fairseq zeroes embeddings at pads, transformers does not."""
    found = opened(folder)
    config, params = found.config, jax.tree.map(jnp.asarray, found.params())
    ids, types = map(jnp.asarray, inputs(config.pad_id))

    everywhere = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

    @jax.jit
    def compute(params: dict[str, Any]) -> dict[str, jax.Array]:
        results = {"hidden": encode(config, params, ids, types)}
        if "pooler" in params:
            dense = params["pooler"]["dense"]
            results["pooled"] = jnp.tanh(results["hidden"][:, 0] @ dense["kernel"] + dense["bias"][None])
        if "mlm_head" in params:
            results["logits"] = apply_mlm(config, params, ids, everywhere, token_types=types)
        if "classification_head" in params:
            results["logits"] = apply_classifier(config, params, ids, classes=CLASSES, token_types=types)
        return results

    results = compute(params)
    assert results.keys() == expected.keys()
    for name, ours in results.items():
        theirs = expected[name]
        assert np.abs(theirs).max() > 0.5, "the test has teeth"
        if theirs.ndim == 3:
            ours, theirs = (np.concatenate([x[i, :n] for i, n in enumerate(LENGTHS)]) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=f"{folder.name} {name}")


DEFAULT = ("bert-mlm", "bert-classification", "roberta-mlm", "distilbert-mlm", "roberta-prelayernorm-mlm")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in DEFAULT)) for name in CASES]
)
def test_hidden_states_and_logits_are_those_of_transformers(name: str, golden: Golden) -> None:
    root, results = golden
    assert_like_transformers(root / name, results[name])


@pytest.mark.interop
@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_logits_are_those_of_transformers_live(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    case = Case(CASES[name].kind, CASES[name].head, "float32", CASES[name].options)
    save(tmp_path / name, case)
    assert_like_transformers(tmp_path / name, computed(tmp_path / name))


def test_the_parts_of_a_folder_are_known_before_a_tensor_is_read(golden: Golden) -> None:
    root, _ = golden
    parts = {name: opened(root / name).parts for name in CASES}
    assert parts["bert-mlm"] == ("encoder", "mlm_head")
    assert parts["bert-alone"] == ("encoder", "pooler")
    assert parts["bert-pretraining"] == ("encoder", "pooler", "mlm_head")
    assert parts["distilbert-classification"] == ("encoder", "classification_head")
    assert opened(root / "bert-pretraining").left_out == (
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    )
    assert opened(root / "bert-classification").label_names == ("class 0", "class 1", "class 2")
    found = opened(root / "roberta-classification")
    shapes = jax.tree.map(lambda x: x.shape, found.params())
    assert found.shapes()["classification_head/output/kernel"] == (16, 3)
    assert shapes["classification_head"]["output"]["kernel"] == (16, 3)


# --- and back -----------------------------------------------------------------------------------------


def written_again(folder: Path, out: Path) -> Path:
    """What a run that trains nothing exports."""
    found = opened(folder)
    units, names = ENCODER.prunable_units(found.config), ENCODER.huggingface_names(found.config)
    params = found.params()
    out.mkdir(parents=True)
    write_huggingface(out, params, found.config, b"{}", names, units, found.label_names)
    return out


@pytest.mark.parametrize("name", DEFAULT)
def test_an_encoder_is_written_as_the_class_that_it_came_from(
    name: str, golden: Golden, tmp_path: Path
) -> None:
    before, after = opened(golden[0] / name), opened(written_again(golden[0] / name, tmp_path / "out"))
    assert (after.class_name, after.config, after.label_names, after.left_out) == (
        before.class_name,
        before.config,
        before.label_names,
        (),
    )
    theirs, ours = (flatten(found.params()) for found in (before, after))
    assert ours.keys() == theirs.keys()
    for path, x in theirs.items():
        np.testing.assert_array_equal(ours[path], x, err_msg=path)


@pytest.mark.interop
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.head in WITH_HEAD])
def test_transformers_computes_the_same_with_what_is_written(name: str, tmp_path: Path) -> None:
    """It finds every tensor of its class, and no other one."""
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    case = Case(CASES[name].kind, CASES[name].head, "float32", CASES[name].options)
    save(tmp_path / name, case)
    expected, found = computed(tmp_path / name), computed(written_again(tmp_path / name, tmp_path / "out"))
    assert found.keys() == expected.keys()
    for key, x in expected.items():
        np.testing.assert_allclose(found[key], x, rtol=0, atol=1e-5, err_msg=key)


def test_special_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """XLM-RoBERTa's configuration names the ids of three; its tokenizer stays as it is."""
    tokenizer, begin, end, pad = xlm_roberta(), 3, 1, 4
    assert [tokenizer.token_to_id(name) for name in ("<s>", "</s>", "<pad>")] == [begin, end, pad]
    sizes: dict[str, Any] = {"num_layers": 1, "hidden_size": 8, "head_size": 4, "max_positions": 6}
    config = ModelConfig(
        **sizes,
        architecture="xlm-roberta",
        vocab_size=tokenizer.get_vocab_size(),
        pad_id=pad,
        position_offset=pad + 1,
    )
    params, content = drawn(lambda key: init_mlm(config, key)), tokenizer.to_str()
    names, units = ENCODER.huggingface_names(config), ENCODER.prunable_units(config)
    special = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_huggingface(tmp_path, params, config, content.encode(), names, units, special=special)
    about, tokens, written = (
        json.loads((tmp_path / name).read_text())
        for name in ("config.json", "tokenizer_config.json", "tokenizer.json")
    )
    assert [about[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [begin, end, pad]
    assert written == json.loads(content)
    assert {**special, "bos_token": "<s>", "eos_token": "</s>"}.items() <= tokens.items()
    assert "mask_token" not in tokens
    assert opened(tmp_path).config == config
    with pytest.raises(UserError, match="tokenizer.json is damaged .added_tokens: field required"):
        write_huggingface(tmp_path, params, config, b"{}", names, units, special=special)


# --- folders of strangers ----------------------------------------------------------------------------


def changed(source: Path, folder: Path, about: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """A copy with other values in config.json, and other tensors; None: without it."""
    shutil.copytree(source, folder)
    document = json.loads((folder / "config.json").read_text()) | (about or {})
    (folder / "config.json").write_text(json.dumps(document))
    if tensors:
        stored = safetensors.numpy.load_file(folder / "model.safetensors") | tensors
        kept = {name: x for name, x in stored.items() if x is not None}
        safetensors.numpy.save_file(kept, folder / "model.safetensors")
    return folder


def test_norms_may_have_their_older_names(golden: Golden, tmp_path: Path) -> None:
    """BERT's first checkpoints have gamma and beta."""
    root, results = golden
    stored = safetensors.numpy.load_file(root / "bert-mlm" / "model.safetensors")
    norms = [name for name in stored if "LayerNorm" in name]
    older = {name.replace("weight", "gamma").replace("bias", "beta"): stored[name] for name in norms}
    without = dict.fromkeys(norms)
    folder = changed(root / "bert-mlm", tmp_path / "bert-mlm", None, **without, **older)
    assert_like_transformers(folder, results["bert-mlm"])
    twice = changed(root / "bert-mlm", tmp_path / "twice", None, **older)
    with pytest.raises(UserError, match="has bert.embeddings.LayerNorm.* twice"):
        opened(twice)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"model_type": "deberta-v2"},
            "its model_type is 'deberta-v2', and supported are .*bert, distilbert",
        ),
        ({"is_decoder": True}, "its is_decoder is True, and supported is False"),
        ({"add_cross_attention": True}, "its add_cross_attention is True"),
        ({"position_embedding_type": "relative_key"}, "its position_embedding_type is 'relative_key', and "),
        ({"hidden_act": "gelu_new"}, "its hidden_act is 'gelu_new', and supported is 'gelu'"),
        ({"pruned_heads": {"0": [1]}}, "its pruned_heads is "),
        ({"quantization_config": {"quant_method": "gptq"}}, "its quantization_config is "),
        ({"num_attention_heads": 3}, "its 3 attention heads do not divide its hidden size of 16"),
        ({"hidden_size": "16"}, "hidden_size: input should be a valid integer, not '16'"),
        ({"vocab_size": 10**12}, "vocab_size must be at most"),
        ({"pad_token_id": None}, "pad_token_id: input should be a valid integer, not None"),
        ({"num_hidden_layers": 3}, "is not whole: its 3 layers .*, and missing are bert.encoder.layer.2"),
        ({"num_hidden_layers": 1}, "has tensors that no bert has here: bert.encoder.layer.1"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    about: dict[str, Any], message: str, golden: Golden, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        opened(changed(golden[0] / "bert-mlm", tmp_path / "copy", about))


def test_damage_is_refused(golden: Golden, tmp_path: Path) -> None:
    bert, weight = golden[0] / "bert-mlm", "bert.embeddings.word_embeddings.weight"
    with pytest.raises(
        UserError, match="is not a folder with a model of transformers: it has no config.json"
    ):
        opened(tmp_path)
    integers = {weight: np.zeros((32, 16), np.int32)}
    with pytest.raises(UserError, match=f"has weights that are not floats: {weight}"):
        opened(changed(bert, tmp_path / "integers", None, **integers))
    distance = {"bert.encoder.layer.0.attention.self.distance_embedding.weight": np.zeros((3, 8), np.float32)}
    with pytest.raises(UserError, match="has tensors that no bert has here: .*distance_embedding"):
        opened(changed(bert, tmp_path / "distances", None, **distance))
    infinite = {weight: np.full((32, 16), np.inf, np.float16)}
    with pytest.raises(UserError, match=f"{weight} in .* has values that are not finite"):
        opened(changed(bert, tmp_path / "infinite", None, **infinite)).params()


def test_a_classifier_of_tokens_is_no_classifier_of_texts(golden: Golden, tmp_path: Path) -> None:
    """Its tensors have the same names."""
    token = {"architectures": ["DistilBertForTokenClassification"]}
    folder = changed(golden[0] / "distilbert-classification", tmp_path / "copy", token)
    assert opened(folder).parts == ("encoder",)


def test_a_bias_and_a_table_of_one_type_have_their_shapes(golden: Golden, tmp_path: Path) -> None:
    bias, scalar = "classifier.bias", np.zeros((), np.float32)
    with pytest.raises(UserError, match=f"{bias} in .* is .., but must be one number for each label"):
        opened(changed(golden[0] / "distilbert-classification", tmp_path / "bias", None, **{bias: scalar}))
    table, one = "bert.embeddings.token_type_embeddings.weight", {"type_vocab_size": 1}
    for number, x in enumerate((np.ones((1, 1)), np.ones((2, 16)), np.ones(16), np.ones(()))):
        wrong = {table: x.astype(np.float32)}
        with pytest.raises(UserError, match=f"{table} in .* is .*, but .1, 16. by its config.json"):
            opened(changed(golden[0] / "bert-mlm", tmp_path / f"{number}", one, **wrong))
    integers = {table: np.ones((1, 16), np.int32)}
    with pytest.raises(UserError, match=f"has weights that are not floats: {table}"):
        opened(changed(golden[0] / "bert-mlm", tmp_path / "integers", one, **integers))
    right = {table: np.ones((1, 16), np.float32)}
    assert opened(changed(golden[0] / "bert-mlm", tmp_path / "right", one, **right)).one_type == table
