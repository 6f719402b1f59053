"""What a compiled program sends between devices: read from the text that the compiler gives of it."""

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
    """One kind of communication in a program: how often a device takes part, and the bytes of its results."""

    kind: str
    times: int
    bytes: int


@dataclass
class _Computation:
    sent: list[tuple[str, int]] = field(default_factory=list)  # kind, bytes
    calls: list[tuple[str, str, int]] = field(default_factory=list)  # computation, condition, times
    limit: int = 1  # the largest number that it names, if it is the condition of a loop


def collectives(text: str) -> list[Collective]:
    """Of an HLO module, by kind. What stands in a loop counts as often as the loop runs."""
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
    """The name of the entry, and all computations."""
    entry, here = "", _Computation()
    found = {"": here}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            here = found.setdefault(head["name"], _Computation())
            entry = head["name"] if line.startswith("ENTRY") else entry
        elif sent := _COLLECTIVE.search(line):
            here.sent.append((sent["kind"], _bytes(sent["type"], "-start(" in line)))
        elif limit := _LIMIT.search(line):
            here.limit = max(here.limit, int(limit[1]))
        else:
            loop, known = _CONDITION.search(line), _TRIPS.search(line)
            for called in _CALLED.finditer(line):
                condition = loop["name"] if loop and called["how"] == "body" else ""
                here.calls.append((called["name"], condition, int(known[1]) if known else 0))
    return entry, found


def _bytes(text: str, started: bool) -> int:
    """Of the arrays in an HLO type; that of a collective's beginning also names what goes in."""
    sizes = []
    for found in _ARRAY.finditer(text):
        dtype, shape = found["dtype"], found["shape"]
        bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 0)
        sizes.append(math.prod(int(n) for n in shape.split(",") if n) * bits // 8)
    return max(sizes, default=0) if started else sum(sizes)
