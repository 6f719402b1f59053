"""A trained model from a run directory or an artifact: parameters and what it takes to use them, no data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from tlc_jax.artifacts.artifact import is_artifact, read_artifact
from tlc_jax.compression.quantize import dequantize
from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import RunDir, split_mark
from tlc_jax.core.stacked import Tensors, join
from tlc_jax.core.tree import Params, flatten
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.tasks.build import abstract_params, label_names
from tlc_jax.runs.average import mean_of_last
from tlc_jax.runs.checkpoint import restore_model
from tlc_jax.training.masked import tensor_masks


@dataclass(frozen=True)
class TrainedModel:
    """`step` is the number of updates, `steps` those of the checkpoints that the parameters are the mean of
    (one, mostly); `label_names` are a classification's, else empty; `masks` tell what of its tensors is
    pruned, where anything is."""

    rundir: RunDir
    config: Config
    params: Params
    step: int
    label_names: tuple[str, ...]
    masks: Tensors
    steps: tuple[int, ...] = ()


def trained_model(root: str, warn: Callable[[str], None]) -> TrainedModel:
    """Of the newest whole checkpoint of a run, of the one at a mark (RUN@MARK), of the mean of its newest n
    (RUN@lastN), or of an artifact; replicated on all devices."""
    if is_artifact(parse_path(root)):
        return _of_artifact(parse_path(root))
    rundir, mark = split_mark(root)
    if not rundir.config.is_file():
        raise UserError(f"{root} is neither a run directory nor an artifact: it has no config.json")
    config = _here(rundir.read_config())
    names = label_names(config, rundir.data)
    sharding = replicated(make_mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract_params(config, names)
    )
    if mark is not None and (last := re.fullmatch(r"last([1-9][0-9]{0,5})", mark)):
        params, masks, steps = mean_of_last(rundir.checkpoints, like, int(last[1]))
    else:
        params, masks, step = restore_model(rundir.checkpoints, like, warn, mark)
        steps = [step]
    return TrainedModel(rundir, config, params, steps[-1], tuple(names), tensor_masks(masks), tuple(steps))


def _of_artifact(place: AnyPath) -> TrainedModel:
    artifact = read_artifact(place)
    if artifact.of_folder:
        raise UserError(f"{place} is not of a run: which model its tensors make this program does not know")
    manifest, files = artifact.manifest, RunDir(place)
    config, names = _here(files.read_config()), tuple(manifest["label_names"])
    tensors = dequantize(artifact.tensors)
    masks = {  # where no mask was stored, zeros tell
        name: np.asarray(tensors[name]) != 0
        for name, entry in manifest["tensors"].items()
        if entry["nonzeros"] < entry["weights"]
    }
    params = join(tensors)
    _check_shapes(place, params, abstract_params(config, names))
    params = jax.device_put(params, replicated(make_mesh()))
    return TrainedModel(files, config, params, manifest["source"]["step"], names, masks)


def _here(config: Config) -> Config:
    """The config of a folder that anybody may have written: prepared data are kept where this machine keeps
    them, not where the config says, and what 'auto' means a run has written into its own."""
    data = dataclasses.replace(config.data, cache_dir=type(config.data)().cache_dir)
    micro = None if config.micro_batch == "auto" else config.micro_batch
    return dataclasses.replace(config, data=data, micro_batch=micro)


def _check_shapes(place: AnyPath, params: Params, expected: Params) -> None:
    """UserError where an artifact's tensors are not those of the model that its config describes."""
    shapes = [{path: tuple(x.shape) for path, x in flatten(tree).items()} for tree in (params, expected)]
    for path in sorted(shapes[0].keys() | shapes[1].keys()):
        there, wanted = (own.get(path) for own in shapes)
        if there != wanted:
            raise UserError(
                f"{place} is not the model of its config.json: {path} is {there or 'missing'} there, and "
                f"{wanted or 'unknown'} in that model; put a whole copy there"
            )
