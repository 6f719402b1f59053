"""Reads event files of TensorBoard by their published layout: records of TFRecord with masked CRC-32C, each
of which holds an Event in the wire format of protocol buffers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c


class Scalar(NamedTuple):
    step: int
    name: str
    value: float
    """In float32."""
    wall_time: float


def events(path: Path) -> Iterator[dict[int, list[Any]]]:
    """The fields of each event by their numbers in event.proto: 1 wall_time, 2 step, 3 file_version,
    5 summary, 7 session_log."""
    data, position = path.read_bytes(), 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        record = data[position + 12 : position + 12 + length]
        stored = struct.unpack_from("<I", data, position + 8) + struct.unpack_from(
            "<I", data, position + 12 + length
        )
        assert stored == (masked(data[position : position + 8]), masked(record)), f"CRC at {position}"
        assert len(record) == length
        position += 16 + length
        yield fields(record)


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def fields(message: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    position = 0
    while position < len(message):
        key, position = varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = varint(message, position)
        elif kind == 1:
            (value,) = struct.unpack_from("<d", message, position)
            position += 8
        elif kind == 2:
            size, position = varint(message, position)
            value, position = message[position : position + size], position + size
        else:
            assert kind == 5
            (value,) = struct.unpack_from("<f", message, position)
            position += 4
        found.setdefault(key >> 3, []).append(value)
    return found


def varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def scalars(path: Path) -> list[Scalar]:
    """The values in an event file, in their order."""
    return [
        Scalar(event.get(2, [0])[0], value[1][0].decode(), value.get(2, [0.0])[0], event[1][0])
        for event in events(path)
        for summary in event.get(5, ())
        for value in map(fields, fields(summary).get(1, ()))
    ]
