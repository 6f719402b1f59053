"""What variants save of the memory of an update (paper, appendix C: sharing of layers).

The memory is that of a program, from the compiler for the device at hand (runs/update_memory.py). It is
counted, not sampled. The paper has 41 % of "total memory usage" and does not say how that was measured, nor
in which precision; what is within five points of it agrees with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.exhibits.layer_sharing import NAMES, sharing
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.picture import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAPER, _NEAR = 0.41, 0.05  # the share of memory that sharing of all layers saves, and what agrees with it
_ROBERTA = {"layers": "12x768", "vocab_size": 50_265, "sequence_length": 128, "batch_size": 32}
_PARTS = {"parameter_bytes": "parameters", "optimizer_bytes": "optimizer", "temporary_bytes": "temporary"}
_MB = 1e6
_Update = dict[str, Any]
"""The columns of an update, and its bytes by metric."""

LESS_MEMORY = Claim(
    "shared-layers-less-memory",
    "Sharing all layers of a RoBERTa of 12x768 saves 41 % of the memory of training at batch size 32.",
    "appendix C",
)


def _rows(store: ItemStore) -> list[Row]:
    """The bytes of the networks that have several variants, `train` itself among them."""
    rows = store.rows(stage="memory")
    variants: dict[str, set[str]] = {}
    for row in rows:
        variants.setdefault(row["network"], set()).add(row["variant"])
    compared = {network for network, names in variants.items() if "" in names and len(names) > 1}
    return [row for row in rows if row["network"] in compared]


def _networks(rows: Iterable[Row]) -> dict[str, dict[str, _Update]]:
    """The updates of each network by variant; the one that the others are compared with comes first."""
    networks: dict[str, dict[str, _Update]] = {}
    for row in sorted(rows, key=lambda row: row["variant"]):
        update = networks.setdefault(row["network"], {}).setdefault(row["variant"], dict(row))
        update[row["metric"]] = row["value"]
    return networks


def _saved(update: _Update, whole: _Update) -> float:
    return 1 - update["peak_bytes"] / whole["peak_bytes"]


def _name(variant: str) -> str:
    return NAMES.get(sharing(variant) or "", variant)


def _findings(rows: list[Row]) -> list[Finding]:
    findings = []
    for updates in _networks(rows).values():
        whole = updates[""]
        for variant, update in updates.items():
            if sharing(variant) == "all" and all(update[name] == _ROBERTA[name] for name in _ROBERTA):
                supports = abs(_saved(update, whole) - _PAPER) <= _NEAR
                findings.append(Finding(LESS_MEMORY, _effect(update, whole), supports, 0.0))
    return findings


def _effect(update: _Update, whole: _Update) -> str:
    parts = ", ".join(f"{(whole[part] - update[part]) / _MB:,.0f} MB {name}" for part, name in _PARTS.items())
    return (
        f"an update of {whole['layers']} with {whole['batch_size']} rows of {whole['sequence_length']} "
        f"tokens and a vocabulary of {whole['vocab_size']:,} needs {whole['peak_bytes'] / _MB:,.0f} MB, and "
        f"{update['peak_bytes'] / _MB:,.0f} MB with {_name(update['variant'])}: "
        f"{100 * _saved(update, whole):.0f} % less ({parts}), in {whole['compute_dtype']} with remat "
        f"{whole['remat']} on {whole['device']}"
    )


def _table(rows: list[Row]) -> Table:
    table = Table(title="Memory of an update in MB, as the compiler says")
    for name in ("network", "variant", "parameters of the model", *_PARTS.values(), "at its peak", "saved"):
        table.add_column(name, justify="left" if name in ("network", "variant") else "right")
    for network, updates in _networks(rows).items():
        for variant, update in updates.items():
            table.add_row(
                network if variant == "" else "",
                _name(variant),
                f"{update['parameter_count']:,}",
                *(f"{update[part] / _MB:,.0f}" for part in (*_PARTS, "peak_bytes")),
                f"{100 * _saved(update, updates['']):.1f} %" if variant else "",
            )
    table.caption = (
        "optimizer: its two moments; temporary: gradients, activations for the backward pass, room to work "
        "in; a CPU's compiler gives as the peak the sum of all that is allocated, batch included"
    )
    return table


def _sentences(rows: list[Row]) -> list[str]:
    return [
        f"{text[:1].upper()}{text[1:]}."
        for updates in _networks(rows).values()
        for text in (_effect(update, updates[""]) for variant, update in updates.items() if variant)
    ]


def _draw(axes: Axes, rows: list[Row]) -> None:
    bars = [
        (network, variant, update)
        for network, updates in _networks(rows).items()
        for variant, update in updates.items()
    ]
    labels = [plain(f"{network.partition(',')[0]}, {_name(variant)}") for network, variant, _ in bars]
    left = [0.0] * len(bars)
    for part, name in _PARTS.items():
        widths = [update[part] / _MB for _, _, update in bars]
        axes.barh(range(len(bars)), widths, left=left, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(bars)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="MB of a device", title="Memory of an update")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=len(_PARTS))


MEMORY_SAVED = Exhibit("memory of an update", _rows, _table, _sentences, _draw, (LESS_MEMORY,), _findings)
