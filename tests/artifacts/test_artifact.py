"""Artifacts: the bytes, that they come back, that damage is named, and that they run alone."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests import builders
from tlc_jax import compress, diff, evaluate, inspect, train
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.artifacts.encoding import decode, encode, entropy_bytes
from tlc_jax.compression.packing import pack_codes, pack_mask, unpack_codes, unpack_mask
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.stacked import split

SPECS = [
    QuantSpec(3, zero="float"),
    QuantSpec(6),
    QuantSpec(1, range="mse"),
    QuantSpec(5, "row"),
    QuantSpec(8, "group:8", zero="float"),
    None,
]


@given(bits=st.integers(1, 8), size=st.integers(0, 40), seed=st.integers(0, 99))
def test_codes_come_back_and_lie_where_the_format_says(bits: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, size).astype(np.uint8)
    packed = pack_codes(codes, bits)
    number = sum(int(code) << (i * bits) for i, code in enumerate(codes))  # the stream as one integer
    assert packed.tobytes() == number.to_bytes(-(-size * bits // 8), "little")
    np.testing.assert_array_equal(unpack_codes(packed, bits, size), codes)


@pytest.mark.parametrize("bits", [3, 6])
def test_codes_of_more_than_one_block(bits: int) -> None:
    codes = np.random.default_rng(0).integers(0, 2**bits, (1 << 20) + 5).astype(np.uint8)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, bits), bits, codes.size), codes)


@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 99))
def test_masks_come_back(shape: tuple[int, int], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.5
    packed = pack_mask(mask)
    assert packed.size == -(-mask.size // 8)
    np.testing.assert_array_equal(unpack_mask(packed, shape), mask)


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_t(3, size=shape).astype(np.float32)


@pytest.mark.parametrize("coding", ["plain", "brotli", "zstd"])
@pytest.mark.parametrize("sparsity", [None, 0.05, 0.6, 1.0])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_tensor_comes_back_exactly_and_is_as_large_as_the_formulas_say(
    spec: QuantSpec | None, sparsity: float | None, coding: str
) -> None:
    x = drawn((24, 17))
    mask = None if sparsity is None else np.random.default_rng(1).random(x.shape) >= sparsity
    q = quantize_tensor("a/kernel", jnp.asarray(x), spec, mask)
    about, parts = encode(q, coding)
    found = decode(json.loads(json.dumps(about)), parts).dense()
    np.testing.assert_array_equal(found, q.dense())
    if mask is not None:
        assert (np.asarray(found)[~mask] == 0).all()
    if coding == "plain":
        assert sum(part.nbytes for part in parts.values()) == q.sizes().format_bytes


def test_layouts_are_chosen_by_size() -> None:
    """From a sparsity of 1 / bits on the bitmap is smaller; with a float zero it is needed below that too."""
    x = drawn((64, 64))
    for spec, share, layout in (
        (QuantSpec(4), 0.20, "dense"),
        (QuantSpec(4), 0.30, "bitmap"),
        (QuantSpec(8), 0.20, "bitmap"),
        (QuantSpec(4, zero="float"), 0.20, "bitmap"),
        (None, 0.02, "dense"),
        (None, 0.20, "bitmap"),
    ):
        mask = np.argsort(np.argsort(np.abs(x).ravel())).reshape(x.shape) >= share * x.size
        leaf = quantize_tensor("a", jnp.asarray(x), spec, mask)
        assert encode(leaf, "plain")[0]["layout"] == layout


def test_the_entropy_is_that_of_the_codes_and_of_the_mask() -> None:
    """By its definition, symbol by symbol; brotli is a little above it where codes are independent, and below
    it where neighbours are alike."""
    x = drawn((128, 192))
    rows = np.arange(128)[:, None] < 64  # half of the rows are pruned: a mask that frequencies do not know
    leaf = quantize_tensor(
        "a/kernel", jnp.asarray(x), QuantSpec(5, range="mse"), np.broadcast_to(rows, x.shape)
    )
    codes = np.asarray(leaf.codes)[:64].reshape(-1).tolist()
    share = {code: codes.count(code) / len(codes) for code in set(codes)}
    bits = -sum(math.log2(share[code]) for code in codes) + 128 * 192 / 8  # half of the mask's bytes are 255
    parts = encode(leaf, "plain")[1]
    bound = entropy_bytes(leaf)
    assert bound == pytest.approx(bits / 8 + parts["delta"].nbytes + parts["offset"].nbytes, rel=1e-12)
    sizes = {c: {p: x.nbytes for p, x in encode(leaf, c)[1].items()} for c in ("plain", "brotli")}
    ideal = -sum(math.log2(share[code]) for code in codes) / 8
    assert ideal < sizes["brotli"]["codes"] < 1.02 * ideal < 0.9 * sizes["plain"]["codes"]
    assert sizes["brotli"]["mask"] < 40 < 128 * 192 / 64


@pytest.fixture(scope="module")
def artifact(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run at 5 bits, 40 % of its matrices pruned."""
    out = tmp_path_factory.mktemp("artifacts") / "five"
    compress.main(["--checkpoint", str(finished), "--bits", "5", "--sparsity", "0.4", "--out", str(out)])
    return out


@pytest.mark.slow
def test_an_artifact_holds_the_run_compressed(artifact: Path, finished: Path) -> None:
    found = read_artifact(artifact)
    values = to_dense(found.tensors)
    source = split(builders.nested(builders.parameters(finished)))
    assert values.keys() == source.keys()
    for name, x in source.items():
        entry = found.manifest["tensors"][name]
        change = np.linalg.norm(np.asarray(values[name]) - x)
        assert entry["relative_error"] == pytest.approx(change / (np.linalg.norm(x) or 1), rel=1e-4, abs=1e-6)
        zeros = entry["weights"] - entry["nonzeros"]
        assert (np.asarray(values[name]) == 0).sum() >= zeros
        pruned = np.sort(np.abs(x).ravel())[:zeros]  # all of their error, and half a step of the others
        rounded = (x.size - zeros) * (float(found.tensors[name].delta.max()) / 2) ** 2
        assert np.linalg.norm(pruned) <= change + 1e-5
        assert change**2 <= (np.linalg.norm(pruned) ** 2 + rounded) * (1 + 1e-4) + 1e-9
    size = found.manifest["size"]
    matrices = sum(x.size for x in source.values() if x.ndim == 2)
    assert size["weights"] - size["nonzeros"] == round(0.4 * matrices)
    stored = safetensors.numpy.load_file(artifact / WEIGHTS)
    assert sum(x.nbytes for x in stored.values()) == size["format_bytes"]


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(artifact: Path, finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "elsewhere")
    again = tmp_path / "again"
    compress.main(["--checkpoint", str(moved), "--bits", "5", "--sparsity", "0.4", "--out", str(again)])
    names = sorted(path.name for path in artifact.iterdir())
    assert names == ["README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    assert all((artifact / name).read_bytes() == (again / name).read_bytes() for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["brotli", "zstd"])
def test_coded_it_is_smaller_and_the_same(
    artifact: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture, coding: str
) -> None:
    out = str(tmp_path / "z")
    options = ["--bits", "5", "--sparsity", "0.4", "--coding", coding]
    compress.main(["--checkpoint", str(finished), *options, "--out", out])
    assert "times smaller" in capsys.readouterr().out
    one, other = (to_dense(read_artifact(path).tensors) for path in (artifact, Path(out)))
    for name, x in one.items():
        np.testing.assert_array_equal(other[name], x, err_msg=name)
    assert (Path(out) / WEIGHTS).stat().st_size < (artifact / WEIGHTS).stat().st_size


@pytest.mark.slow
def test_it_runs_alone(
    artifact: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture, corpus: Path
) -> None:
    """Evaluated from a copy, as the run's own parameters are when they are compressed in place."""
    alone = shutil.copytree(artifact, tmp_path / "alone")
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(alone), "--data.dir", str(corpus), "--json"])
    found = json.loads(capsys.readouterr().out)
    evaluate.main(["--checkpoint", str(finished), "--json"])
    dense = json.loads(capsys.readouterr().out)
    assert found["step"] == dense["step"] == 12
    for name in ("perplexity", "nats_per_byte"):
        key = f"eval/held_out/two_sided_bigram_{name}"
        assert found[key] == dense[key]
    assert found["eval/held_out/perplexity"] != dense["eval/held_out/perplexity"]
    assert found["eval/held_out/perplexity"] == pytest.approx(dense["eval/held_out/perplexity"], rel=0.1)


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.slow
def test_one_flipped_byte_in_each_tensor_is_named(artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    whole = (copy / WEIGHTS).read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    assert len(header) > 40
    for key, entry in header.items():
        if key == "__metadata__" or entry["data_offsets"][0] == entry["data_offsets"][1]:
            continue
        flipped(copy / WEIGHTS, 8 + size + sum(entry["data_offsets"]) // 2)
        with pytest.raises(UserError, match=rf"holds a tensor {key.rpartition('.')[0]} that was changed"):
            read_artifact(copy)
        (copy / WEIGHTS).write_bytes(whole)
    for at in range(0, 8 + size, 97):  # the container's own words
        flipped(copy / WEIGHTS, at)
        with pytest.raises(UserError, match="the artifact is damaged"):
            read_artifact(copy)
        (copy / WEIGHTS).write_bytes(whole)
    read_artifact(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "tokenizer.json"])
def test_one_flipped_byte_in_the_words_is_named(artifact: Path, tmp_path: Path, name: str) -> None:
    for at in range(0, (artifact / name).stat().st_size, 997):
        copy = shutil.copytree(artifact, tmp_path / f"copy{at}")
        flipped(copy / name, at)
        with pytest.raises(UserError, match=rf"damaged: .*{name}"):
            read_artifact(copy)
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_or_cut_file_is_named(artifact: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"damaged: .*{name}"):
        read_artifact(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=rf"damaged: .*{name}"):
        read_artifact(copy)


@pytest.mark.slow
def test_what_cannot_be_is_refused(artifact: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        compress.main(["--checkpoint", str(finished), "--out", str(artifact)])
    with pytest.raises(UserError, match="is neither a run directory"):
        compress.main(["--checkpoint", str(tmp_path), "--out", str(tmp_path / "out")])
    for option, value in (("--bits", "9"), ("--sparsity", "1.0"), ("--range", "max")):
        with pytest.raises(UserError, match=f"{option[2:]} must be"):
            compress.main(["--checkpoint", str(finished), "--out", str(tmp_path / "out"), option, value])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_recipe_has_its_own_rules(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "recipe.py").write_text(
        """
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.config.compression import CompressConfig

def get_config():
    return CompressConfig(rules=(
        Rule(r".*/(bias|scale)", why="small"),
        Rule(r"encoder/layers/0/.*", QuantSpec(8, "row", "mse")),
        Rule(r".*", QuantSpec(4), prune=True),
    ), sparsity=0.5)
"""
    )
    out = tmp_path / "out"
    compress.main(["--checkpoint", str(finished), "--config", str(tmp_path / "recipe.py"), "--out", str(out)])
    tensors = read_artifact(out).manifest["tensors"]
    first, second = (tensors[f"encoder/layers/{i}/attention/query/kernel"] for i in (0, 1))
    assert (first["bits"], first["granularity"], first["nonzeros"]) == (8, "row", first["weights"])
    assert (second["bits"], second["granularity"]) == (4, "tensor")
    assert second["nonzeros"] < second["weights"]
    assert tensors["mlm_head/bias"] | {"bits": 32, "why": "small"} == tensors["mlm_head/bias"]


@pytest.mark.slow
def test_a_tensor_that_goes_is_told(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    common = ["--checkpoint", str(finished), "--sparsity", "0.97"]
    compress.main([*common, "--out", str(tmp_path / "a")])
    assert "has lost" in capsys.readouterr().out
    compress.main([*common, "--max-tensor-sparsity", "0.98", "--out", str(tmp_path / "b")])
    assert "has lost" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["32", "8"])
def test_what_was_pruned_stays_pruned_when_an_artifact_is_compressed_again(
    finished: Path, tmp_path: Path, bits: str
) -> None:
    """Also where no mask was stored (float32 values; few zeros among codes), and to a grid without zero."""
    share = "0.1" if bits == "8" else "0.4"
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    compress.main(["--checkpoint", str(finished), "--bits", bits, "--sparsity", share, "--out", first])
    compress.main(["--checkpoint", first, "--bits", "5", "--zero", "float", "--out", second])
    before, after = (read_artifact(Path(place)) for place in (first, second))
    assert after.manifest["size"]["nonzeros"] <= before.manifest["size"]["nonzeros"]
    values = to_dense(after.tensors)
    for name, x in to_dense(before.tensors).items():
        entry = before.manifest["tensors"][name]
        if entry["nonzeros"] < entry["weights"]:
            assert (np.asarray(values[name])[np.asarray(x) == 0] == 0).all(), name


@pytest.mark.slow
def test_inspect_tells_what_is_there(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    inspect.main([str(artifact), "--json"])
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["tensors"] == read_artifact(artifact).manifest["tensors"]
    assert 0 < manifest["entropy_bytes"] < manifest["size"]["format_bytes"]
    inspect.main([str(artifact)])
    shown = capsys.readouterr().out
    assert all(f"{manifest['size'][kind]:,.0f}" in shown for kind in ("paper_bytes", "format_bytes"))
    with pytest.raises(UserError, match="is not an artifact"):
        inspect.main([str(tmp_path)])


@pytest.mark.slow
def test_diff_tells_what_compression_changed(
    artifact: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    diff.main([str(finished), str(artifact), "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    manifest = read_artifact(artifact).manifest["tensors"]
    assert {own["name"] for own in found} == manifest.keys()
    for own in found:
        expected = manifest[own["name"]]["relative_error"]
        assert own["relative"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert [own["relative"] for own in found] == sorted((own["relative"] for own in found), reverse=True)
    diff.main([str(artifact), str(artifact)])
    assert f"0 of {len(manifest)} tensors differ" in capsys.readouterr().out
    other = tmp_path / "other"
    compress.main(["--checkpoint", str(finished), "--sparsity", "0.4", "--out", str(other)])
    capsys.readouterr()
    diff.main([str(artifact), str(other), "--json"])
    zeros = [json.loads(line)["common_zeros"] for line in capsys.readouterr().out.splitlines()]
    assert max(share for share in zeros if share is not None) > 0.9, "the same masks"


@pytest.mark.slow
def test_heads_and_units_go_and_the_smaller_model_trains(
    finished: Path, corpus: Path, command, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Half of each: an artifact of a smaller model, which is evaluated, compressed again and trained
    further."""
    small = tmp_path / "small"
    less = ["--heads", "2", "--feed-forward-size", "64", "--bits", "32"]
    compress.main(["--checkpoint", str(finished), *less, "--out", str(small)])
    found = read_artifact(small)
    assert found.tensors["encoder/layers/0/attention/query/kernel"].shape == (32, 16)
    assert found.tensors["encoder/layers/1/feed_forward/contract/kernel"].shape == (64, 32)
    model = json.loads((small / "config.json").read_text())["model"]
    assert (model["num_heads"], model["head_size"], model["feed_forward_size"]) == (2, 8, 64)
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(small), "--data.dir", str(corpus), "--json"])
    before = json.loads(capsys.readouterr().out)["eval/held_out/perplexity"]
    train.main(command(tmp_path / "run", "--init-from", str(small)))
    evaluate.main(["--checkpoint", str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["eval/held_out/perplexity"] < before
    compress.main(["--checkpoint", str(small), "--bits", "4", "--out", str(tmp_path / "four")])
    assert read_artifact(tmp_path / "four").manifest["source"]["compressed_before"]
    with pytest.raises(UserError, match="keep 1 to 4 of them, not 5"):
        compress.main(["--checkpoint", str(finished), "--heads", "5", "--out", str(tmp_path / "five")])
