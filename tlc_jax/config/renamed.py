"""What older versions called by another name, or did not have yet.

Their command lines and config documents are answered with the new name; their runs are read as if they had
been written today. A field that is renamed or added after version 0.1.0 gets a line here.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Union

from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.training import DistilConfig

RENAMED: dict[str, dict[str, str]] = {
    "EvaluationConfig": {"stop_at_accuracy": "stop_at"},
    "CompressConfig": {"zstd": "coding"},
    "StudyConfig": {"pretrain": "train"},
}
"""By dataclass: the old name of a field and its new name."""

_BY_NATS = "language models and translations now stop at so many nats per byte, or fewer"
MEANINGS = {"stop_at_accuracy": _BY_NATS, "zstd": "coding brotli makes smaller files than coding zstd"}
"""By the old name of a field: what is not only renamed."""

ADDED: dict[str, dict[str, Any]] = {
    "Config": {
        "distil": DistilConfig(),
        "data_share": 1.0,
        "tensorboard": False,
        "compression_aware": CompressionAwareConfig(),
    },
    "StudyConfig": {
        "pretrained": (),
        "distillations": (),
        "compression": CompressConfig(zero="float"),
        "compressed_at": (),
        "memory_of": (),
        "oversized": (),
        "errors": False,
        "recovery": None,
    },
    "DistilConfig": {"hidden_weight": 0.0},
    "EvaluationConfig": {"per_run": None},
    "OptimizerConfig": {"epsilon_form": "optax", "layer_decay": 1.0},
    "CheckpointConfig": {"best": False},
    "ModelConfig": {
        "architecture": "roberta-prelayernorm",
        "pad_id": 1,
        "position_offset": 2,
        "token_types": 0,
        "norm_epsilon": 1e-5,
        "tied_output": True,
    },
    "CompressConfig": {
        "max_drop": None,
        "confidence": 0.95,
        "mixed_bits": False,
        "range_dtype": "float32",
        "ignore": None,
        "calibration_text": None,
    },
    "RecoveryConfig": {
        "distil_weight": 0.0,
        "distil_temperature": 1.0,
        "distil_hidden_weight": 0.0,
        "quantization_aware": False,
        "movement": None,
    },
    "QuantSpec": {"range_dtype": "float32"},
    "ClassificationConfig": {"lengths": "doubling"},
    "PairsConfig": {"packing": False},
    "ScheduleConfig": {"warmup_steps": None, "local_attention_tokens": None},
}
"""By dataclass: a field added since, and the value that describes what older runs did."""


def renamed_option(kind: type, option: str) -> str | None:
    """The new name of an option `--part.field` of the dataclass `kind`; None if it was not renamed."""
    path = option.removeprefix("--").replace("-", "_").split(".")
    if not any(name in names for name in path for names in RENAMED.values()):
        return None
    kinds, new = [kind], list[str]()
    for name in path:
        names = [RENAMED[kind.__name__][name] for kind in kinds if name in RENAMED.get(kind.__name__, {})]
        new.append(names[0] if names else name)
        kinds = [member for kind in kinds for member in members(typing.get_type_hints(kind).get(new[-1]))]
    return "--" + ".".join(new).replace("_", "-") if new != path else None


def instead(field: str, new: str) -> str:
    """The answer to a `field` by its old name, of which `new` is the new one."""
    meaning = MEANINGS.get(field.replace("-", "_"), "")
    meaning = f"; {meaning}" if meaning else ""
    return f"is now {new}: give that instead{meaning}"


def members(hint: Any) -> list[type]:
    """The dataclasses that an annotation allows: itself, or members of a union."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)]


def upgraded(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `kind` as an older version wrote them, by their new names, with those added since and
    without the value that `dropped` names."""
    values = dict(values)
    if kind.__name__ == "Config" and dropped(values):
        values["evaluation"] = {**values["evaluation"], "stop_at_accuracy": None}
    for old, new in RENAMED.get(kind.__name__, {}).items():
        if old in values and new not in values:
            values[new] = values.pop(old)
    if kind.__name__ == "CompressConfig" and isinstance(values.get("coding"), bool):
        values["coding"] = "zstd" if values["coding"] else "plain"
    return {**ADDED.get(kind.__name__, {}), **values}


def dropped(document: dict[str, Any]) -> str:
    """A sentence on the value in the config.json of an older run that has no meaning any more; '' for
    most."""
    match document:
        case {"evaluation": {"stop_at_accuracy": int() | float() as target}, "task": {**task}}:
            if "head_dropout" not in task:  # the primary metric of a classification is still its accuracy
                return (
                    f"evaluation.stop_at_accuracy {target:g} is dropped: {_BY_NATS}; this run ends with its "
                    "budget"
                )
    return ""
