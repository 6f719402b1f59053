"""`python -m tlc_jax.export RUN --format huggingface --out DIR`: a model for other tools."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the model of a run or of an artifact in a format that other tools load."""

    checkpoint: cli.Model[str]
    out: str
    """The folder to create."""
    format: Literal["huggingface", "compressed-tensors"]
    """'huggingface': a RobertaPreLayerNorm in dense float32, with its tokenizer, for transformers.
    'compressed-tensors': an artifact's codes, as that library and vLLM read them. For an artifact made with
    compress --hf, either format restores the model of that folder."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the floats of the format huggingface; bfloat16 takes half the bytes, and transformers
    computes with it."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Export, argv)
    from tlc_jax.inference.exporting import export_model
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.training.view import make_console

    export_model(args.checkpoint, parse_path(args.out), args.format, make_console(), dtype=args.dtype)


if __name__ == "__main__":
    run_command(main)
