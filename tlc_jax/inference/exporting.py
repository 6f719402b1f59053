"""Export of trained models in formats that other programs load."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from tlc_jax.artifacts.artifact import Artifact, is_artifact, other_files, read_artifact
from tlc_jax.artifacts.checkpoint_folder import is_kept
from tlc_jax.artifacts.compressed_tensors import Packed, to_compressed_tensors
from tlc_jax.artifacts.encoder_config import CLASSES
from tlc_jax.artifacts.huggingface import by_huggingface_names, write_huggingface
from tlc_jax.artifacts.model_card import NAME as CARD
from tlc_jax.artifacts.model_folder import json_file, read_arrays, store_bfloat16, write_arrays
from tlc_jax.artifacts.pegasus import write_pegasus
from tlc_jax.config import ClassificationConfig, EncoderDecoderConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.printable import first_of
from tlc_jax.core.schema import Name, NotRequired, TypedDict, checked, record
from tlc_jax.core.tree import count
from tlc_jax.inference.exported_card import exported_card, of_folder
from tlc_jax.models.encoder_decoder import sinusoids
from tlc_jax.models.families import ENCODER, ENCODER_DECODER, family_of
from tlc_jax.models.family import ModelFamily
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.claim import claimed
from tlc_jax.storage.paths import AnyPath, new_folder, parse_path, write_bytes
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.untrusted import one_reason, parse_json, read_bytes, read_json
from tlc_jax.tasks.decoder import EXTRA

_LARGEST = 64 << 20  # bytes of a tokenizer


@record
class _SpecialTokens(TypedDict):
    cls_token: Name
    sep_token: Name
    pad_token: Name
    unk_token: Name
    mask_token: NotRequired[Name]


def export_model(
    root: str,
    out: AnyPath,
    kind: str,
    console: Console,
    loaded: TrainedModel | None = None,
    dtype: str = "float32",
) -> None:
    """Write a model to the new folder `out` in one of FORMATS, with its card; `loaded` is that model, if it
    is at hand. `dtype` is that of the floats of the format huggingface, float32 or bfloat16."""
    half = dtype == "bfloat16"
    if half and kind != "huggingface":
        raise UserError(
            f"{kind} has codes, and its floats are float32: omit --dtype, or give --format huggingface"
        )
    with claimed(out), new_folder(out, exclusive=True) as making:
        if loaded is None and not of_folder(root):
            loaded = load_model(root, warn=console.print)
        if half and loaded is not None:  # the card has the metric of what is written
            loaded = dataclasses.replace(loaded, params=jax.tree.map(_rounded, loaded.params))
        FORMATS[kind](root, making, console, loaded)
        if half:
            store_bfloat16(making)
        write_bytes(making / CARD, exported_card(root, making, kind, console, loaded).text().encode())
    console.print(f"written to {out}")


def _rounded(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16).astype(x.dtype)


def _huggingface(root: str, folder: AnyPath, console: Console, loaded: TrainedModel | None) -> None:
    if is_artifact(parse_path(root)) and (artifact := read_artifact(parse_path(root))).of_folder:
        arrays = {name: np.asarray(x) for name, x in to_dense(artifact.tensors).items()}
        write_arrays(folder, arrays, _documents(artifact, console))
        console.print(f"{len(arrays)} tensors by their original names, floats in dense float32")
        return
    model = loaded or load_model(root, warn=console.print)
    tokenizer, family = _document(model.rundir.tokenizer), family_of(model.config.model)
    if family.name not in _WRITERS:
        raise UserError(f"{root} is of the family {family.name}, which has no counterpart in Hugging Face")
    network = _WRITERS[family.name](folder, model, tokenizer, family)
    console.print(f"{count(model.params):,} parameters as a {network} of Hugging Face")


def _write_pegasus(folder: AnyPath, model: TrainedModel, tokenizer: bytes, family: ModelFamily) -> str:
    config = cast(EncoderDecoderConfig, model.config.model)
    positions = sinusoids(model.config.data.sequence_length + EXTRA, config.hidden_size)
    write_pegasus(folder, model.params, config, tokenizer, family.huggingface_names(config), positions)
    return "Pegasus"


def _write_encoder(folder: AnyPath, model: TrainedModel, tokenizer: bytes, family: ModelFamily) -> str:
    task = model.config.task
    config = cast(ModelConfig, task.model_in_use(model.config.model))
    head_dropout = cast(ClassificationConfig, task).head_dropout if model.label_names else 0.0
    names, units = family.huggingface_names(config), family.prunable_units(config)
    labels, special = model.label_names, _special_tokens(model.rundir)
    write_huggingface(folder, model.params, config, tokenizer, names, units, labels, head_dropout, special)
    return CLASSES[config.architecture]


def _special_tokens(rundir: RunDir) -> dict[str, str] | None:
    """The names of special tokens, where they are not those of our own encoders."""
    path = rundir.special_tokens
    if not path.exists():
        return None
    try:
        named = checked(read_json(path), _SpecialTokens)
        return {role: str(token) for role, token in named.items()}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} does not name special tokens ({one_reason(error)}): replace it with an undamaged copy"
        ) from error


_WRITERS = {ENCODER.name: _write_encoder, ENCODER_DECODER.name: _write_pegasus}


def _compressed_tensors(root: str, folder: AnyPath, console: Console, loaded: TrainedModel | None) -> None:
    if not is_artifact(parse_path(root)):
        raise UserError(f"{root} has no codes to export: compress it first, and export the artifact")
    artifact = read_artifact(parse_path(root))
    if artifact.of_folder:
        tensors, others = artifact.tensors, _documents(artifact, console)
    elif (family := family_of(config := RunDir(artifact.folder).read_config().model)) is ENCODER_DECODER:
        raise UserError(f"{root} translates, which compressed-tensors cannot hold: give --format huggingface")
    else:
        _huggingface(
            root, folder, console, loaded
        )  # the other files and arrays: config, tokenizer, token types
        names = family.huggingface_names(config)
        tensors = by_huggingface_names(artifact.tensors, read_arrays(folder), names)
        others = {"config.json": (folder / "config.json").read_bytes()}
    packed = to_compressed_tensors(tensors)
    about = _parsed(others.get("config.json", b"{}"), f"the config.json of {root}")
    about |= {"quantization_config": packed.config}
    others |= {"config.json": json_file(about)}
    write_arrays(folder, packed.arrays, others)
    _report_packed(packed, console)


def _documents(artifact: Artifact, console: Console) -> dict[str, bytes]:
    """The files beside the weights that compress --hf would have copied; an artifact, which anybody may have
    written, may list others."""
    others = other_files(artifact)
    kept = {name: content for name, content in others.items() if is_kept(name)}
    if left_out := sorted(others.keys() - kept.keys()):
        console.print(f"not exported, since a model has no such documents: {', '.join(left_out)}")
    return kept


def _document(path: AnyPath) -> bytes:
    """The content of a file that holds a JSON object."""
    content = read_bytes(path, _LARGEST)
    _parsed(content, str(path))
    return content


def _parsed(content: bytes, whose: str) -> dict[str, Any]:
    try:
        return checked(parse_json(content.decode("utf-8")), dict[str, Any])
    except ValueError as error:
        raise UserError(
            f"{whose} is not a JSON object ({one_reason(error)}): replace it with an undamaged copy"
        ) from error


def _report_packed(packed: Packed, console: Console) -> None:
    """Print how many matrices are stored as codes, and which quantized tensors are not, with the reasons."""
    (group,) = packed.config["config_groups"].values()
    bits, strategy = group["weights"]["num_bits"], group["weights"]["strategy"]
    console.print(
        f"{len(group['targets'])} matrices as codes for compressed-tensors ({bits} bits, {strategy}); "
        f"{len(packed.arrays)} arrays"
    )
    if packed.widened:
        console.print(
            f"{len(packed.widened)} of them have fewer bits and are stored with {bits}: transformers reads "
            "one scheme per model"
        )
    for reason in dict.fromkeys(packed.dense.values()):
        names = [name for name, why in packed.dense.items() if why == reason]
        console.print(f"as float32, {reason}: {first_of(names)}")


FORMATS = {"huggingface": _huggingface, "compressed-tensors": _compressed_tensors}
