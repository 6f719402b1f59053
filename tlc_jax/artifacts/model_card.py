"""A model card: README.md with front matter as the Hugging Face hub reads it
(https://huggingface.co/docs/hub/model-cards), made of records alone.

What is not known is left out, the licence of the weights for one. Whoever publishes the model may edit the
card: an artifact's manifest does not list it. All strings may come from anybody, and are escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tlc_jax.artifacts.model_record import DataRecord, MetricRecord, ModelRecord
from tlc_jax.core.markdown import escaped, table
from tlc_jax.core.printable import counted, printable

NAME = "README.md"
WEIGHTS = "model.safetensors"
_HUB_METRICS = {"matthews": "matthews_correlation"}
"""Names of metrics that are others at https://huggingface.co/metrics."""
_HUB = re.compile(r"(?:https://huggingface\.co|hf:/)/datasets/([\w-][\w.-]*/[\w-][\w.-]*)", re.ASCII)
_SHOWN = 20  # files in a table
PAPER = "[Train Large, Then Compress](https://arxiv.org/abs/2002.11794) (Li et al. 2020)"


@dataclass(frozen=True)
class ModelCard:
    """What a card says. `use` is Markdown with commands and code; `facts` are cells of a table by their
    names, `manifest` is that of an artifact; `weights_bytes` is the size of the weights' file beside the
    card, where that is not the artifact's."""

    name: str
    title: str
    library: str | None
    made_by: str
    facts: Mapping[str, str]
    use: str
    hub_task: str | None = None
    languages: Sequence[str] = ()
    record: ModelRecord | None = None
    manifest: Mapping[str, Any] | None = None
    weights_bytes: int | None = None

    def text(self) -> str:
        """The content of README.md."""
        front = yaml.safe_dump(self._metadata(), sort_keys=False, allow_unicode=True, width=10_000)
        return f"---\n{front}---\n\n" + "\n\n".join(part for part in self._parts() if part) + "\n"

    def _metadata(self) -> dict[str, Any]:
        record: Mapping[str, Any] = self.record or {}
        data, metric = record.get("data"), record.get("metric")
        known = {
            "language": list(self.languages),
            "library_name": self.library,
            "pipeline_tag": self.hub_task,
            "tags": ["tlc-jax", *_tags(self.manifest)],
            "datasets": _hub_datasets(data) if data else None,
            "metrics": [_hub_name(metric)] if metric else None,
            "model-index": [self._results(data, metric)] if data and metric and self.hub_task else None,
        }
        return {name: value for name, value in known.items() if value}

    def _results(self, data: DataRecord, metric: MetricRecord) -> dict[str, Any]:
        """The metric as the hub shows it beside a model."""
        names = _dataset_names(data)
        result = {
            "task": {"type": self.hub_task},
            "dataset": {
                "type": (_hub_datasets(data) or names)[0],
                "name": ", ".join(names),
                "split": printable(metric["set"]),
            },
            "metrics": [
                {"type": _hub_name(metric), "value": metric["value"], "name": _words(metric["name"])}
            ],
        }
        return {"name": self.name, "results": [result]}

    def _parts(self) -> Iterator[str]:
        yield f"# {escaped(self.title)}"
        yield (
            f"Written by {escaped(self.made_by)}, code for {PAPER}, from what is recorded of the model. What "
            "is not recorded is left out: add the licence of the weights, the intended use and known biases "
            "before you publish it."
        )
        yield table((name, escaped(fact)) for name, fact in self.facts.items())
        if self.record:
            yield from _training(self.record)
            yield from _quality(self.record)
        yield from _size(self.manifest, self.weights_bytes)
        yield f"## How to load it\n\n{self.use}" if self.use else ""
        yield from _limits(self.record)


def _tags(manifest: Mapping[str, Any] | None) -> list[str]:
    if manifest is None:
        return []
    size, bits = manifest["size"], _bits(manifest)
    return [*(["quantized"] if min(bits) < 32 else []), *(["sparse"] if _sparse(size) else [])]


def _bits(manifest: Mapping[str, Any]) -> set[int]:
    """Those of its matrices, or of all tensors where there is none."""
    entries = manifest["tensors"].values()
    bits = {entry["bits"] for entry in entries if len(entry["shape"]) > 1}
    return bits or {entry["bits"] for entry in entries} or {32}


def _sparse(size: Mapping[str, Any]) -> bool:
    return size["nonzeros"] < 0.9 * size["weights"]  # a few weights are zero in any quantized model


def _hub_datasets(data: DataRecord) -> list[str]:
    """Data sets of the hub, by the names that they have there."""
    sources = [str(prepared.get("source") or "") for prepared in data["prepared"]]
    return list(dict.fromkeys(match[1] for each in sources for match in _HUB.finditer(each)))


def _dataset_names(data: DataRecord) -> list[str]:
    names = [prepared["name"] for prepared in data["prepared"]] or data["sources"][:3] or [data["identity"]]
    return [printable(name) for name in names]


def _hub_name(metric: MetricRecord) -> str:
    return printable(_HUB_METRICS.get(metric["name"], metric["name"]))


def _words(name: str) -> str:
    return printable(name.replace("_", " "))


def _training(record: ModelRecord) -> Iterator[str]:
    rows = {
        "updates": f"{record['updates']:,}",
        "training time": _seconds(record["training_seconds"]) if "training_seconds" in record else "",
        "tokens": f"{record['tokens']:,.0f}" if "tokens" in record else "",
        "epochs": f"{record['epochs']:.4g}" if "epochs" in record else "",
        "floating-point operations": f"{record['flops']:.4g}" if "flops" in record else "",
        "pruned in rounds": _recovery(record),
        "began with": record.get("began_with", ""),
        "devices": "; then ".join(record.get("devices", ())),
        "seed": str(record.get("seed", "")),
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("packages", {}).items()),
    }
    yield "## Training"
    yield table((name, escaped(text, 1000)) for name, text in rows.items() if text)
    if "training_seconds" in record:
        yield "The time is that of updates alone, without compilation, evaluation and saving."
    if "data" in record:
        yield from _data(record["data"])


def _recovery(record: ModelRecord) -> str:
    if "recovery_updates" not in record:
        return ""
    seconds = f" in {_seconds(record['recovery_seconds'])}" if "recovery_seconds" in record else ""
    return f"{record['recovery_updates']:,} further updates{seconds}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 1000 else f"{seconds:.3g} s"


def _data(data: DataRecord) -> Iterator[str]:
    yield "### Data"
    names, count = data["sources"][:_SHOWN], data["source_count"]
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    yield f"Prepared from {', '.join(map(escaped, names))}{more}."
    for prepared in data["prepared"]:
        details = [f"licence {escaped(prepared['licence'])}"]
        details += [f"{name} {escaped(x)}" for name in ("source", "revision") if (x := prepared.get(name))]
        yield f"* {escaped(prepared['name'])}: {'; '.join(details)}"
    rows = [
        (escaped(name), f"{file['bytes']:,}", f"`{file['sha256']}`")
        for name, file in list(data["files"].items())[:_SHOWN]
    ]
    more = f" The manifest of the run lists {len(data['files']):,}." if len(data["files"]) > len(rows) else ""
    yield f"The run trained on these files, made from them (identity `{data['identity']}`).{more}"
    yield table(rows, ("file", "bytes", "SHA-256"))


def _quality(record: ModelRecord) -> Iterator[str]:
    metric = record.get("metric")
    if metric is None:
        return
    yield "## Quality"
    name, subset = escaped(_words(metric["name"])), escaped(metric["set"])
    before = f" ({_number(metric['before'])} before compression)" if "before" in metric else ""
    yield (
        f"{name[:1].upper()}{name[1:]} {_number(metric['value'])}{_range(metric)} on {subset}, "
        f"{counted(metric['examples'], 'example')}{before}. Choices may have been made on it."
    )
    if "interval" in metric:
        yield (
            "The interval has 95 % over the examples of the set, taken as independent. It says nothing about "
            "another training: this is one."
        )
    else:
        yield f"There is no interval: {escaped(metric.get('no_interval', 'none was computed'))}."


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _range(metric: MetricRecord) -> str:
    if "interval" not in metric:
        return ""
    low, high = metric["interval"]
    return f" (95 % interval {_number(low)} to {_number(high)})"


def _size(manifest: Mapping[str, Any] | None, weights_bytes: int | None) -> Iterator[str]:
    yield "## Size"
    if weights_bytes is not None:
        yield f"The file of weights beside this card has {weights_bytes:,} bytes."
    if manifest is None:
        return
    if weights_bytes is not None:
        yield "The artifact that it was exported from:"
    size, bits = manifest["size"], sorted(_bits(manifest))
    zeros = 1 - size["nonzeros"] / size["weights"] if size["weights"] else 0.0
    rows = {
        "weights": f"{size['weights']:,}",
        "bits of matrices": str(bits[0]) if len(bits) == 1 else f"{bits[0]} to {bits[-1]}",
        "zeros (sparsity)": f"{100 * zeros:.1f} %",
        "relative error of weights": _number(manifest.get("relative_error", math.nan)),
        "float32": f"{size['float32_bytes']:,} bytes",
        "paper (non-zeros x bits / 8)": f"{size['paper_bytes']:,.0f} bytes",
        "format (codes, ranges, positions of zeros)": f"{size['format_bytes']:,} bytes",
        "file of weights": f"{manifest['files'][WEIGHTS]['bytes']:,} bytes",
    }
    yield table(rows.items())
    if manifest["source"]["kind"] == "folder":
        yield "It was compressed from these files:"
        files = manifest["source"].get("files", {})
        rows_of_files = [
            (escaped(name), f"{file['bytes']:,}", f"`{file['sha256']}`")
            for name, file in list(files.items())[:_SHOWN]
        ]
        yield table(rows_of_files, ("file", "bytes", "SHA-256"))


def _limits(record: ModelRecord | None) -> Iterator[str]:
    yield "## Limits"
    metric = record.get("metric") if record else None
    if metric:
        yield (
            f"The model was evaluated on {escaped(metric['set'])} alone, a set that was kept from training. "
            "How it does on other text, in other languages or for other purposes is not known, and it was "
            "not examined for harmful output."
        )
    else:
        yield "This model was not evaluated when it was written here, and not examined for harmful output."
