"""Untrusted folders, sealed by those who forged them: refused by name, or harmless (docs/security.md)."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import safetensors.numpy
from etils import epath

from tests.forging import fingerprint_of, forge, forge_parts, peak_of
from tlc_jax import compress, export, inspect
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.artifacts.safetensors_file import SafetensorsFile
from tlc_jax.compression.select import select
from tlc_jax.config import Config
from tlc_jax.config.quantization import Rule
from tlc_jax.config.saved import config_from_json
from tlc_jax.core.errors import UserError

NAME = "a.weight"
CODINGS = ("brotli", "zstd")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("strangers") / "model"
    root.mkdir()
    rng = np.random.default_rng(0)
    weights = {NAME: rng.normal(size=(64, 32)), "b.weight": rng.normal(size=(32, 64)), "b.bias": np.zeros(32)}
    weights = {name: x.astype(np.float32) for name, x in weights.items()}
    weights["positions"] = np.arange(8)
    safetensors.numpy.save_file(weights, root / WEIGHTS)
    (root / "config.json").write_text('{"model_type": "x"}', encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def artifacts(model: Path) -> dict[str, Path]:
    """As codes, with bitmaps, and coded."""
    found = {}
    codings = {coding: ["--coding", coding] for coding in CODINGS}
    for kind, options in {"dense": [], "bitmap": ["--sparsity", "0.6"], **codings}.items():
        found[kind] = model.parent / kind
        one_range = ["--hf", str(model), "--bits", "4", "--granularity", "tensor"]
        compress.main([*one_range, *options, "--out", str(found[kind])])
    return found


@pytest.fixture
def artifact(artifacts: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(artifacts["dense"], tmp_path / "download" / "model")


# --- names, links, kinds of files --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["../.bashrc", "/etc/passwd", "a/../../b", "..", "", "a\\..\\b", "a\0b", "C:x", "a//b"]
)
def test_a_name_that_leaves_the_folder_is_refused(artifact: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("mine", encoding="utf-8")
    (artifact.parent / ".bashrc").write_text("changed", encoding="utf-8")
    forge(artifact, lambda m: m["files"].update({name: fingerprint_of(artifact.parent / ".bashrc")}))
    for kind in ("huggingface", "compressed-tensors"):
        with pytest.raises(UserError, match="no plain name|at least 1 character"):
            export.main(["--checkpoint", str(artifact), "--format", kind, "--out", str(home / kind)])
    assert (home / ".bashrc").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in home.iterdir()] == [".bashrc"]


def test_links_out_of_a_folder_are_not_followed(artifact: Path, model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": 1}', encoding="utf-8")
    (artifact / "config.json").unlink()
    (artifact / "config.json").symlink_to(secret)
    forge(artifact, lambda m: None)
    with pytest.raises(UserError, match=r"config\.json cannot be read \(it is a link that leads outside"):
        export.main(
            ["--checkpoint", str(artifact), "--format", "huggingface", "--out", str(tmp_path / "out")]
        )
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "tokenizer.json").symlink_to(secret)
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be copied"):
        compress.main(["--hf", str(copy), "--out", str(tmp_path / "out")])
    (copy / "tokenizer.json").unlink()
    (copy / WEIGHTS).rename(tmp_path / "elsewhere.safetensors")
    (copy / WEIGHTS).symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match="leads outside"):
        compress.main(["--hf", str(copy), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_cache_is_read(model: Path, tmp_path: Path) -> None:
    """There snapshots/REVISION links to the repository's blobs, and to nothing else."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (WEIGHTS, "config.json"):
        shutil.copy(model / name, blobs / f"of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/of-{name}")
    source = CheckpointFolder(snapshot)
    np.testing.assert_array_equal(source[NAME], safetensors.numpy.load_file(model / WEIGHTS)[NAME])
    assert source.others.keys() == {"config.json"}
    (tmp_path / "other").write_bytes((model / WEIGHTS).read_bytes())
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to("../../other")
    with pytest.raises(UserError, match="leads outside"):
        CheckpointFolder(snapshot)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "manifest.json"])
def test_what_is_no_regular_file_is_refused_at_once(
    artifact: Path, model: Path, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    for folder, read in (
        (artifact, lambda: inspect.main([str(artifact)])),
        (copy, lambda: CheckpointFolder(copy)),
    ):
        if not (folder / name).exists():
            continue
        for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")):
            if (folder / name).is_dir():
                (folder / name).rmdir()
            else:
                (folder / name).unlink()
            make(folder / name)
            with pytest.raises(UserError, match=name.replace(".", r"\.")):
                read()


def test_a_folder_is_what_its_index_says(model: Path, tmp_path: Path) -> None:
    """Stray files beside the weights are not weights; without an index the usual name counts."""
    copy = shutil.copytree(model, tmp_path / "copy")
    stray = {"adapter_model", "consolidated", "optimizer"}
    for name in stray:
        safetensors.numpy.save_file({NAME: np.ones((2, 2), np.float32)}, copy / f"{name}.safetensors")
    source = CheckpointFolder(copy)
    assert source[NAME].shape == (64, 32)
    assert set(source.left_out) == {f"{name}.safetensors" for name in stray}
    (copy / WEIGHTS).rename(copy / "part.safetensors")
    assert CheckpointFolder(copy).files == ["part.safetensors"]
    index = {"weight_map": {NAME: "part.safetensors", "b.bias": "part.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert set(CheckpointFolder(copy)) == {NAME, "b.bias"}, (
        "what the index does not name is no part of the model"
    )
    for wrong in (
        {"weight_map": {NAME: "../part.safetensors"}},
        {"weight_map": [1]},
        [],
        {"weight_map": {NAME: 1}},
    ):
        (copy / "model.safetensors.index.json").write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(UserError, match="is not the index of a checkpoint"):
            CheckpointFolder(copy)
    (copy / "model.safetensors.index.json").unlink()
    (copy / "part.safetensors").rename(copy / "model-00002-of-00002.safetensors")
    with pytest.raises(UserError, match="lacks model-00001-of-00002"):
        CheckpointFolder(copy)


def test_the_modules_of_a_sentence_transformer_are_kept(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text('{"mean": true}', encoding="utf-8")
    modules = [{"path": "", "type": "Transformer"}, {"path": "1_Pooling"}, {"path": "2_Normalize"}]
    (copy / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    compress.main(["--hf", str(copy), "--bits", "8", "--out", str(tmp_path / "small")])
    arguments = [
        "--checkpoint",
        str(tmp_path / "small"),
        "--format",
        "huggingface",
        "--out",
        str(tmp_path / "out"),
    ]
    export.main(arguments)
    assert (tmp_path / "out" / "1_Pooling" / "config.json").read_bytes() == b'{"mean": true}'
    (copy / "modules.json").write_text(json.dumps([{"path": "../.."}]), encoding="utf-8")
    with pytest.raises(UserError, match=r"modules\.json names '\.\./\.\.'"):
        CheckpointFolder(copy)


@pytest.mark.slow
def test_more_tensors_or_axes_than_any_model_has_are_refused(tmp_path: Path) -> None:
    many = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_001)}
    deep = {"deep": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}
    for header, size, says in (
        (many, 0, "more than 50,000 tensors"),
        (deep, 4, "'deep' has 70 axes, and at most 32"),
    ):
        content = json.dumps(header).encode()
        (tmp_path / WEIGHTS).write_bytes(len(content).to_bytes(8, "little") + content + bytes(size))
        with pytest.raises(UserError, match=says):
            CheckpointFolder(tmp_path)


@pytest.mark.slow
def test_a_rule_of_many_names_takes_linear_time() -> None:
    names = [f"{kind}.{i}|(\\.)\n" for i in range(20_000) for kind in ("vector", "matrix")]
    tensors = {name: np.zeros(1 if name[0] == "v" else (1, 1), np.float32) for name in names}
    start = time.process_time()
    vectors = "|".join(re.escape(name) for name in names if name[0] == "v")
    found = select(tensors, [Rule(vectors), Rule("(?s).*", prune=True)])
    assert time.process_time() - start < 6  # in turn, 20,000 names for each of 40,000 take minutes
    assert {name for name, rule in found.items() if rule.prune} == {n for n in names if n[0] == "m"}


def test_large_tokenizers_and_weights_of_modules_are_kept(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "2_Dense").mkdir()
    (copy / "modules.json").write_text('[{"path": "2_Dense"}]', encoding="utf-8")
    sizes = {"tokenizer.json": 64 << 20, "2_Dense/model.safetensors": 1 << 30, "vocab.txt": 32 << 20}
    for name, size in sizes.items():
        with (copy / name).open("wb") as file:
            file.truncate(size)  # a hole: no disk is used
    assert CheckpointFolder(copy).others.keys() >= sizes.keys()
    for name, size in sizes.items():
        os.truncate(copy / name, size + 1)
        with pytest.raises(UserError, match=rf"{name} has {size + 1:,} bytes, but at most {size:,}"):
            CheckpointFolder(copy)
        os.truncate(copy / name, size)


@pytest.mark.parametrize("content", [b'{"model_type": ', b"[]", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_none_is_refused(artifact: Path, tmp_path: Path, content: bytes) -> None:
    (artifact / "config.json").write_bytes(content)
    forge(artifact, lambda m: None)
    arguments = [
        "--checkpoint",
        str(artifact),
        "--format",
        "compressed-tensors",
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(UserError, match=r"the config\.json of .* is not a JSON object"):
        export.main(arguments)
    assert not (tmp_path / "out").exists()


def test_an_export_holds_documents_only(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    others = ("evil.py", "pytorch_model.bin", "model.safetensors.index.json", "authorized_keys", "vocab.txt")
    for name in others:
        (artifact / name).write_text("x", encoding="utf-8")
    forge(artifact, lambda m: m["files"].update({name: fingerprint_of(artifact / name) for name in others}))
    for kind in ("huggingface", "compressed-tensors"):
        export.main(["--checkpoint", str(artifact), "--format", kind, "--out", str(tmp_path / kind)])
        names = {path.name for path in (tmp_path / kind).iterdir()}
        assert names == {WEIGHTS, "config.json", "vocab.txt", "README.md"}
        assert "authorized_keys, evil.py" in capsys.readouterr().out, "what is left out is named"


# --- sizes by declaration ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "bitmap", *CODINGS])
def test_more_weights_than_there_are_bytes_are_refused_before_memory_is_asked_for(
    artifacts: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder = shutil.copytree(artifacts[kind], tmp_path / "a")
    many = {"shape": [6 * 10**9 // 64, 64], "weights": 6 * 10**9}
    forge(folder, lambda m: m["tensors"][NAME].update(**many, nonzeros=m["tensors"][NAME]["nonzeros"]))

    def read() -> None:
        with pytest.raises(UserError, match=r"tensors/a\.weight"):
            read_artifact(folder)

    assert peak_of(read) < 10 << 20


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_refused(artifacts: dict[str, Path], tmp_path: Path, coding: str) -> None:
    folder, size = shutil.copytree(artifacts[coding], tmp_path / "a"), 200 << 20
    bomb = np.frombuffer(pyarrow.Codec(coding, 1).compress(bytes(size), asbytes=True), np.uint8)
    assert len(bomb) < 100_000
    forge_parts(folder, NAME, {"codes": bomb})  # declares as many codes as before
    with pytest.raises(
        UserError, match=r"a tensor a\.weight that is not what its manifest says \(its codes are"
    ):
        read_artifact(folder)
    forge_parts(folder, NAME, {"codes": bomb}, shape=[size], weights=size, nonzeros=size)
    with pytest.raises(UserError, match=r"tensors/a\.weight: .* bytes do not hold"):
        read_artifact(folder)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("damage", ["cut", "longer", "shorter", "followed", "noise", "empty"])
def test_a_damaged_stream_is_refused(
    artifacts: dict[str, Path], tmp_path: Path, coding: str, damage: str
) -> None:
    """Also where its digest fits. A stream that is too short is never filled up with what memory held."""
    folder = shutil.copytree(artifacts[coding], tmp_path / "a")
    leaf = read_artifact(folder).tensors[NAME]
    codes = np.asarray(leaf.codes).tobytes()  # type: ignore[attr-defined]
    codec = pyarrow.Codec(coding, compression_level=1)
    whole = codec.compress(codes, asbytes=True)
    stream = {
        "cut": whole[:-5],
        "longer": codec.compress(codes + b"\0", asbytes=True),
        "shorter": codec.compress(codes[:-1], asbytes=True),
        "followed": whole + b"more",
        "noise": np.random.default_rng(0).bytes(len(whole)),
        "empty": b"",
    }[damage]
    forge_parts(folder, NAME, {"codes": np.frombuffer(stream, np.uint8)})
    with pytest.raises(UserError, match=rf"a tensor a\.weight that is .* \(its codes are .*{coding}"):
        read_artifact(folder)


def test_a_stream_has_one_coding(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(artifacts["brotli"], tmp_path / "a")
    for changes, says in (
        ({"zstd": True}, "coded once"),
        ({"coding": "gzip"}, "coding"),
        ({"coding": "zstd"}, "coding"),
    ):
        copy = shutil.copytree(
            folder, tmp_path / says.replace(" ", "") / str(len(changes)), dirs_exist_ok=True
        )
        forge(copy, lambda m, changes=changes: m["tensors"][NAME].update(changes))
        with pytest.raises(UserError, match=rf"tensors/a\.weight.*{says}"):
            read_artifact(copy)


PARTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"codes": np.zeros(3, np.uint8)}, {}, "codes are uint8"),
    ({"codes": np.zeros(1024, np.int8)}, {}, "codes are int8"),
    ({"delta": np.full((1, 1), np.nan, np.float32)}, {}, "not finite"),
    ({"delta": np.zeros((3, 1), np.float32), "offset": np.zeros((3, 1), np.int8)}, {}, "ranges are"),
    ({"delta": np.zeros((0, 1), np.float32), "offset": np.zeros((0, 1), np.int8)}, {}, "ranges are"),
    ({"delta": np.zeros(1, np.float32)}, {}, "ranges are"),
    ({"offset": np.zeros((1, 1), np.float32)}, {}, "ranges are"),
    ({"mask": np.zeros(256, np.uint8)}, {}, "its parts are"),
    ({}, {"layout": "bitmap"}, "its parts are"),
    ({}, {"bits": 32, "shape": [8, 8], "weights": 64, "nonzeros": 64}, "its parts are"),
    ({}, {"bits": 3}, "codes are uint8"),
    ({}, {"shape": [32, 64, 1]}, "ranges are"),
    ({}, {"granularity": "column"}, "granularity must be"),
]


@pytest.mark.parametrize(("parts", "entry", "says"), PARTS, ids=[says for *_, says in PARTS])
def test_parts_that_are_not_what_the_manifest_says(
    artifact: Path, parts: dict[str, np.ndarray], entry: dict[str, Any], says: str
) -> None:
    forge_parts(artifact, NAME, parts, **entry)
    with pytest.raises(UserError, match=rf"a\.weight that is not what its manifest says \(.*{says}"):
        read_artifact(artifact)


def test_a_mask_that_keeps_another_number(artifacts: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(artifacts["bitmap"], tmp_path / "a")
    forge_parts(folder, NAME, {"mask": np.full(256, 255, np.uint8)})
    with pytest.raises(UserError, match="its mask keeps 2,048 weights and not"):
        read_artifact(folder)


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m["tensors"][NAME].update(shape="64"), r"tensors/a\.weight/shape"),
    (lambda m: m["tensors"][NAME].update(bits=True), r"tensors/a\.weight/bits"),
    (lambda m: m["tensors"][NAME].update(bits=10**30), r"tensors/a\.weight/bits"),
    (lambda m: m["tensors"][NAME].update(weights=-1), r"tensors/a\.weight/weights"),
    (lambda m: m["tensors"][NAME].update(shape=[2] * 60), r"tensors/a\.weight/shape"),
    (lambda m: m["tensors"][NAME].update(nonzeros=10**6), r"tensors/a\.weight: its shape"),
    (lambda m: m["tensors"][NAME].update(dtype="<i4"), r"tensors/a\.weight: 2,048 elements of its values"),
    (lambda m: m["tensors"][NAME].update(layout="other"), r"tensors/a\.weight/layout: 'other' with 4 bits"),
    (lambda m: m["tensors"]["positions"].update(dtype="O"), "tensors/positions/dtype"),
    (lambda m: m["tensors"].pop(NAME), "of which the manifest knows nothing"),
    (lambda m: m["tensors"].update(c=m["tensors"][NAME]), "a tensor c that was changed"),
    (lambda m: m.update(files=[]), "files"),
    (lambda m: m["files"].pop(WEIGHTS), "there is no model.safetensors"),
    (lambda m: m.update(size=3), "size"),
    (lambda m: m.update(source={"kind": "x"}), "source/kind"),
    (lambda m: m.update(source={"kind": "run"}), "label_names"),
    (lambda m: m.update(format=7), "is of the format 7"),
    (lambda m: m.pop("tensors"), "tensors: field required"),
    (lambda m: m["tensors"].update({"\x1b[31mred": 3}), r"\\x1b\[31mred"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES, ids=[says for _, says in CHANGES])
def test_a_manifest_is_checked_before_anything_it_says_is_done(
    artifact: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    forge(artifact, change)
    with pytest.raises(UserError, match=says):
        read_artifact(artifact)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "{" * 5000, "nan", '{"a": NaN}', "", "\0", "{}", "[]", "3"]
)
def test_a_manifest_that_is_none(artifact: Path, content: str) -> None:
    (artifact / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        read_artifact(artifact)


def test_a_document_larger_than_any_is_not_read(artifact: Path) -> None:
    with (artifact / "manifest.json").open("wb") as file:
        file.truncate(3 << 30)  # a hole: no disk is used
    with pytest.raises(UserError, match="larger than the"):
        read_artifact(artifact)


def test_a_header_larger_than_any_is_not_read(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    header = (64 << 20).to_bytes(8, "little")
    (copy / WEIGHTS).write_bytes(header + b" " * 100)
    with pytest.raises(UserError, match="header has 67,108,864 bytes"):
        CheckpointFolder(copy)


@pytest.mark.parametrize("kind", ["F4", "F8_E4M3"])
def test_a_type_that_numpy_lacks_is_refused(artifact: Path, kind: str) -> None:
    content = (artifact / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    about = json.loads(content[8:end])
    codes = about[f"{NAME}.codes"]
    size = codes["data_offsets"][1] - codes["data_offsets"][0]
    codes |= {"dtype": kind, "shape": [2 * size if kind == "F4" else size]}  # of F4 two in a byte
    header = json.dumps(about).encode()
    content = len(header).to_bytes(8, "little") + header + content[end:]
    (artifact / WEIGHTS).write_bytes(content)
    forge(artifact, lambda m: None)
    with pytest.raises(UserError, match=f"the artifact is damaged: .* has the type {kind}, of which numpy"):
        inspect.main([str(artifact)])
    with pytest.raises(ValueError, match=f"has the type {kind}, of which numpy has no arrays"):
        SafetensorsFile(epath.Path(artifact / WEIGHTS), len(content))  # as from a bucket


RULES = [
    ("(", "regular expression"),
    ("(([a-z/_0-9])+)+X", "names, .* and"),
    (".*.*.*X", "names, .* and"),
]


@pytest.mark.parametrize(("pattern", "says"), RULES)
def test_a_pattern_in_the_config_of_a_run_is_simple(pattern: str, says: str) -> None:
    document = json.loads(json.dumps(dataclasses.asdict(Config())))
    document["compression_aware"]["rules"] = [dataclasses.asdict(Rule("a"))]
    rule = document["compression_aware"]["rules"][0]
    for allowed in ("a", r"(?s).*", r"encoder/layers/\d+/attention/query/kernel|b\.c", ".*/kernel"):
        rule["pattern"] = allowed
        assert config_from_json(document).compression_aware.rules[0].pattern == allowed
    rule["pattern"] = pattern
    with pytest.raises(ValueError, match=says):
        config_from_json(document)
