"""What a compiled program sends between devices, as read from its HLO text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

_KINDS = "all-reduce|all-gather|(?:ragged-)?all-to-all|collective-(?:permute|broadcast)|reduce-scatter"
_COLLECTIVE = re.compile(rf"= (?P<type>.*?) (?P<kind>{_KINDS})(?:-start)?\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?P<how>body|to_apply|calls)=%?(?P<name>[\w.\-]+)")
_CONDITION = re.compile(r" while\(.*condition=%?(?P<name>[\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*)(?:e\d\w+)?\[(?P<shape>[\d,]*)\]")
_BITS = {"pred": 8, "bf16": 16}


@dataclass(frozen=True)
class Collective:
    """A kind of communication in a program: how often a device takes part, and the bytes of the results."""

    kind: str
    times: int
    bytes: int


@dataclass
class _Computation:
    sent: list[tuple[str, int]] = field(default_factory=list)  # kind, bytes
    calls: list[tuple[str, str, int]] = field(default_factory=list)  # computation, condition, times
    limit: int = 1  # the largest constant; of the condition of a loop, its trips


def collectives(text: str) -> list[Collective]:
    """The collectives of an HLO module, by kind; those in a loop count as often as the loop runs."""
    entry, computations = _parse(text)
    totals: dict[str, list[int]] = {}
    pending = [(entry, 1)]
    while pending:
        name, times = pending.pop()
        for kind, size in computations[name].sent:
            total = totals.setdefault(kind, [0, 0])
            total[0] += times
            total[1] += times * size
        for called, condition, known in computations[name].calls:
            trips = known or computations[condition].limit if condition else 1
            pending.append((called, times * trips))
    return [Collective(kind, times, size) for kind, (times, size) in sorted(totals.items())]


def _parse(text: str) -> tuple[str, dict[str, _Computation]]:
    """The name of the entry computation, and all computations by name."""
    entry, current = "", _Computation()
    computations = {"": current}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head["name"], _Computation())
            entry = head["name"] if line.startswith("ENTRY") else entry
        elif sent := _COLLECTIVE.search(line):
            current.sent.append((sent["kind"], _bytes(sent["type"], "-start(" in line)))
        elif limit := _LIMIT.search(line):
            current.limit = max(current.limit, int(limit[1]))
        else:
            loop, known = _CONDITION.search(line), _TRIPS.search(line)
            for called in _CALLED.finditer(line):
                condition = loop["name"] if loop and called["how"] == "body" else ""
                current.calls.append((called["name"], condition, int(known[1]) if known else 0))
    return entry, computations


def _bytes(text: str, started: bool) -> int:
    """Bytes of the arrays in an HLO type; that of a `-start` operation also names its inputs."""
    sizes = []
    for array in _ARRAY.finditer(text):
        dtype, shape = array["dtype"], array["shape"]
        bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)
        sizes.append(math.prod(int(n) for n in shape.split(",") if n) * bits // 8)
    return max(sizes, default=0) if started else sum(sizes)
