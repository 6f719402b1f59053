"""What a line of a study's results.jsonl holds, stage by stage, and how it is read from a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Count, Name, NotRequired, Sha256, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.training.metrics import read_metrics

Result = dict[str, Any]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[str, StringConstraints(pattern=r"^[\w.+-]+$", max_length=200)]
"""A part of the name of a run directory."""


@record
class StageData(TypedDict):
    """The prepared data of a run: the identity of their source and options, and their tokenizer's SHA-256."""

    identity: Sha256
    tokenizer: Sha256


@record
class _Result(TypedDict):
    size: Part
    data: NotRequired[dict[Literal["pretrain", "finetune"], StageData]]
    """By stage, all that the result rests on; studies of earlier versions do not tell."""


@record
class Pretrained(_Result):
    """Held-out perplexity over the training seconds, with the lines that it must cross."""

    steps: Annotated[list[Count], Field(min_length=1)]
    training_seconds: Annotated[list[float], Field(min_length=1)]
    perplexity: Annotated[list[Positive], Field(min_length=1)]
    unigram_perplexity: Positive
    bigram_perplexity: Positive


@record
class Finetuned(_Result):
    """The last evaluation on the tuning set."""

    name: Part
    seed: Part
    steps: Count
    training_seconds: float
    accuracy: Share
    loss: float


@record
class Compressed(_Result):
    """A finetuned model at one sparsity and number of bits; `correct` is one bit an example."""

    name: Part
    seed: Part
    sparsity: Share
    bits: Count
    tuning_accuracy: Share
    set: Name
    examples: Annotated[int, Field(gt=0)]
    accuracy: Share
    correct: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
    paper_bytes: Positive
    parameters: Count
    nonzeros: Count
    step: Count
    majority_accuracy: Share
    linear_accuracy: Share


_KINDS: dict[str, type] = {"pretrain": Pretrained, "finetune": Finetuned, "compress": Compressed}


def check_result(result: Result) -> None:
    """ValueError names what is wrong with a result of a study."""
    kind = _KINDS.get(str(result.get("stage")))
    if kind is None:
        raise ValueError(f"stage is none of {', '.join(_KINDS)}")
    checked(result, kind)
    if kind is Pretrained:
        lengths = {len(result[name]) for name in ("steps", "training_seconds", "perplexity")}
        if len(lengths) > 1:
            raise ValueError("steps, training_seconds and perplexity are not of one length")
    if kind is Compressed and len(result["correct"]) != 2 * -(-result["examples"] // 8):
        raise ValueError(f"correct does not hold a bit for each of {result['examples']:,} examples")


def result_key(result: Result) -> tuple[Any, ...]:
    """What a study holds one result of."""
    return tuple(result.get(name) for name in ("stage", "size", "name", "seed", "sparsity", "bits"))


def read_result(stage: str, folder: AnyPath) -> Result:
    """What the metrics of a finished run tell: of 'pretrain' its curve, of 'finetune' the last evaluation on
    the tuning set."""
    metrics = RunDir(folder).metrics
    lines = read_metrics(metrics)
    try:
        return _curve(lines) if stage == "pretrain" else _tuning(lines)
    except (KeyError, IndexError) as error:
        raise UserError(
            f"{metrics} lacks the evaluations of a finished run ({error}): put the run's own file back"
        ) from error


def _curve(lines: list[dict[str, Any]]) -> Result:
    points = [line for line in lines if "eval/held_out/perplexity" in line]
    return {
        "steps": [line["step"] for line in points],
        "training_seconds": [line["training_seconds"] for line in points],
        "perplexity": [line["eval/held_out/perplexity"] for line in points],
        "unigram_perplexity": lines[0]["eval/held_out/unigram_perplexity"],
        "bigram_perplexity": lines[0]["eval/held_out/bigram_perplexity"],
    }


def _tuning(lines: list[dict[str, Any]]) -> Result:
    last = [line for line in lines if "eval/tuning/accuracy" in line][-1]
    return {
        "steps": last["step"],
        "training_seconds": last["training_seconds"],
        "accuracy": last["eval/tuning/accuracy"],
        "loss": last["eval/tuning/loss"],
    }
