"""Data that are prepared with the tokenizer of a pretrained encoder: pads, frames, token types, masks and
bytes are those of its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.builders import documents, write_corpus, write_tables
from tests.data.encoder_tokenizers import (
    KINDS,
    TEXTS,
    Files,
    encode,
    library,
    opened,
    state,
    without,
    written,
)
from tlc_jax.config import ClassificationConfig, Config, DataConfig, MlmConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.recorded_roles import check_roles, recorded, roles_in
from tlc_jax.data.text_ids import encode_texts
from tlc_jax.data.token_bytes import MeasuredBytes
from tlc_jax.tasks.kinds import kind_of

QUIET = Console(quiet=True)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_recorded_roles_are_read_back(tokenizer_files: Files, name: str) -> None:
    _, roles = opened(tokenizer_files[name])
    manifest = json.loads(json.dumps({"vocab_size": roles.vocab_size, **recorded(roles)}))
    assert ("roles" in manifest) == (name == "bert")
    assert roles_in(manifest) == roles
    check_roles(manifest)
    with pytest.raises(ValueError, match="do not fit into vocab_size 5"):
        check_roles({**json.loads(json.dumps({"roles": dataclasses.asdict(roles)})), "vocab_size": 5})


def config(tmp_path: Path, path: Path, roles: Roles, task: Any, data: Path) -> Config:
    model = ModelConfig(
        num_layers=1,
        hidden_size=16,
        head_size=8,
        vocab_size=roles.vocab_size,
        max_positions=32,
        pad_id=roles.pad,
        position_offset=roles.pad + 1,
    )
    options = DataConfig(
        dir=str(data),
        tokenizer=str(path),
        sequence_length=32,
        held_out=0.2,
        cache_dir=str(tmp_path / "cache"),
    )
    return Config(model=model, task=task, data=options, batch_size=8)


@pytest.mark.parametrize("name", ["bert", "modern_bert"])
def test_labelled_pairs(tokenizer_files: Files, tmp_path: Path, name: str) -> None:
    """Batches have the pads and the token types of the tokenizer, and rows that its library makes."""
    _, roles = opened(tokenizer_files[name])
    write_tables(tmp_path / "tables", 60)
    made = config(tmp_path, tokenizer_files[name], roles, ClassificationConfig(), tmp_path / "tables")
    console = Console(record=True, width=200)
    data = kind_of(made).prepare(made, console)
    assert ("changes text before it is encoded (BertNormalizer)" in console.export_text()) == (name == "bert")
    batch = next(kind_of(made).task(made, data).sample_batches(slice))
    library_of = library(data.folder / "tokenizer.json")
    library_of.enable_truncation(max_length=32)
    rows = [
        encode(library_of, tuple(line.split("\t")[:2]))
        for line in (tmp_path / "tables" / "train.tsv").read_text().splitlines()[1:]
    ]
    expected = {(tuple(row.ids), tuple(row.type_ids)) for row in rows}
    for tokens, types in zip(batch["tokens"], batch["token_types"], strict=True):
        real = tokens != roles.pad
        assert (tuple(tokens[real].tolist()), tuple(types[real].tolist())) in expected
        assert not types[~real].any()
    wrong = dataclasses.replace(made.model, pad_id=9, position_offset=10)
    with pytest.raises(
        UserError, match=f"model.pad_id is 9, but the pad of the tokenizer .* id {roles.pad}: set"
    ):
        kind_of(made).prepare(dataclasses.replace(made, model=wrong), QUIET)
    with pytest.raises(
        UserError, match=f"model.pad_id is 9, but the pad of the data in .* id {roles.pad}: set"
    ):
        kind_of(made).task(dataclasses.replace(made, model=wrong), data)


def test_masked_text_of_a_pretrained_model(tokenizer_files: Files, tmp_path: Path) -> None:
    """Its tokenizer is used although it loses text, and nats per byte are of the bytes that were read."""
    _, roles = opened(tokenizer_files["bert"])
    (tmp_path / "text").mkdir()
    made = config(
        tmp_path,
        tokenizer_files["bert"],
        roles,
        MlmConfig(mask_rate=1.0),
        write_corpus(tmp_path / "text", 40),
    )
    kind = kind_of(made)
    with pytest.raises(UserError, match="does not keep every text: it is a WordPiece model"):
        kind.prepare(made, QUIET)
    data: Any = kind.prepare(made, QUIET, pretrained=True)
    rows = data.rows("held_out")
    assert (rows[:, 0] == roles.begin).all()
    opened_task: Any = kind.task(made, data)
    batch = next(opened_task.evaluation_batches("held_out", len(rows), slice))
    assert (batch["weights"].sum(axis=1) == (rows != roles.pad).sum(axis=1)).all()
    predicted = (batch["weights"] * opened_task.token_bytes()[batch["targets"]]).sum()
    texts = [text for text in documents(40) if kept_out(text, data, roles)]
    assert texts
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    expected = sum(len(line.encode()) + 1 for line in lines) + len(texts)
    assert predicted == pytest.approx(expected, rel=1e-5)
    assert opened_task.baselines()["held_out/two_sided_bigram_nats_per_byte"] > 0


def kept_out(text: str, data: Any, roles: Roles) -> bool:
    """Whether a document is in the held-out rows."""
    first = text.split("\n")[0]
    ids = library(data.folder / "tokenizer.json").encode(first, add_special_tokens=False).ids
    running = data.rows("held_out")[:, 1:].ravel().tolist()
    size = len(ids) + 1
    return any(running[i : i + size] == [*ids, roles.end] for i in range(len(running)))


def test_masked_language_modelling_needs_a_mask(tokenizer_files: Files, tmp_path: Path) -> None:
    content = without("[MASK]")({**state(tokenizer_files["bert"])})
    path = written(tmp_path / "tokenizer", content)
    _, roles = opened(path)
    assert roles.mask is None
    made = config(tmp_path, path, roles, MlmConfig(), tmp_path)
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    with pytest.raises(UserError, match="no mask token, which masked language modelling needs: name one"):
        kind_of(made).prepare(made, QUIET, pretrained=True)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30)
@given(lines=st.lists(st.one_of(TEXTS, st.text(max_size=30)), max_size=4))
def test_measured_bytes_are_all_of_the_text(tokenizer_files: Files, name: str, lines: list[str]) -> None:
    lines = [line.encode("utf-8", "ignore").decode() for line in lines]
    tokenizer, roles = opened(tokenizer_files[name])
    measured = MeasuredBytes(tokenizer, roles)
    measured.add(lines)
    ids = [i for line in encode_texts(tokenizer, lines, roles) for i in (*line, roles.end)]
    total = sum(len(line.encode()) + 1 for line in lines)
    assert measured.sizes()[ids].astype(float).sum() == pytest.approx(total, rel=1e-5)
