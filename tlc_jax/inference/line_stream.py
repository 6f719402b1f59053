"""A stream of lines or rows: read as they come, computed in windows, and answered in order, whatever they
hold."""

from __future__ import annotations

import codecs
import os
import queue
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from rich.console import Console

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.progress import stage
from tlc_jax.data.lines import COMPRESSION, read_lines

Item = TypeVar("Item")
Respond = Callable[[int, list[Item]], Iterable[str]]
"""(number of items before, a window of items) -> what is written for each item."""

_WINDOW = 512  # lines that are sorted by length and computed together
LONGEST_LINE = 1 << 20  # bytes: longer than any sentence
_NOT_UTF8 = "held bytes that are not UTF-8, each replaced by U+FFFD"
_PAUSE = 0.2  # seconds without a further line after which the lines so far are computed


def answer_stream(
    items: Iterable[Item],
    write: Callable[[str], object],
    respond: Respond[Item],
    console: Console,
    counts: Counter[str],
    *,
    doing: str,
    done: str,
    unit: str = "lines",
    bar: bool = True,
) -> None:
    """Write what `respond` says of each item, in order; items are `unit`.

    What was counted is printed at the end. Interrupted and UserError say how many items are `done`.
    """
    number = 0
    try:
        with stage(console, doing, None, unit, bar=bar) as advance:
            for window in windows(items):
                stopping.check()
                for answer in respond(number, window):
                    write(answer)
                    number += 1
                advance(len(window))
    except (Interrupted, UserError) as error:
        if not number and isinstance(error, UserError):
            raise
        finished = f"1 {unit.removesuffix('s')} is" if number == 1 else f"{number:,} {unit} are"
        so_far = f"{finished} {done}; to resume, give the {unit} from {number + 1:,} on"
        if isinstance(error, Interrupted):
            raise Interrupted(f"interrupted: {so_far}") from error
        raise UserError(f"{error}. {so_far[0].upper()}{so_far[1:]}") from error
    finally:
        for what, count in counts.items():
            if count:
                console.print(f"{count:,} of {number:,} {unit} {what}")


def standard_input() -> Iterator[bytes]:
    """The lines of standard input, where it is open."""
    if sys.stdin is None:
        raise UserError("standard input is closed: read lines with < FILE")
    return lines_of(sys.stdin.fileno())


def from_keyboard() -> bool:
    """Whether a person types the lines of standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask_for_lines(console: Console) -> None:
    """Say on a terminal that the keyboard is read."""
    if from_keyboard():
        console.print("reading the keyboard: a text on each line, Ctrl-D at the end")


def standard_output() -> Callable[[str], None]:
    """What writes to standard output, where it is open."""
    if sys.stdout is None or getattr(sys.stdout, "lost", None):
        raise UserError("standard output is closed: write with > FILE")
    return writer_to(sys.stdout.buffer)


def lines_of_file(path: Path, counts: Counter[str]) -> Iterator[str]:
    """The lines of a file or pipe as those of standard input, also where it is compressed (.gz, .zst)."""
    if path.suffix.lower() in COMPRESSION:
        yield from read_lines(path)
        return
    with path.open("rb", buffering=0) as file:
        yield from decoded(lines_of(file.fileno(), str(path)), counts)


def writer_to(output: BinaryIO) -> Callable[[str], None]:
    """A function that writes text and flushes it; UserError where that fails. Control characters are spelled
    out on a terminal, since anybody may have made the model."""
    terminal = output.isatty()

    def write(text: str) -> None:
        if terminal:
            text = re.sub(r"[^\n\t]+", lambda part: printable(part[0], len(part[0])), text)
        try:
            output.write(text.encode())
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(
                f"standard output cannot be written ({error.strerror}): free some space or write elsewhere"
            ) from error

    return write


def lines_of(descriptor: int, name: str = "standard input") -> Iterator[bytes]:
    """The lines of an open file, as they come; UserError for one that is too long. Not `sys.stdin`: a thread
    that waits for it holds a lock which Python needs to exit."""
    rest: list[bytes] = []
    size, number = 0, 1
    try:
        while chunk := os.read(descriptor, 1 << 16):
            first, *others = chunk.split(b"\n")
            rest.append(first)
            size += len(first)
            for line in others:
                if size > LONGEST_LINE:
                    break
                yield b"".join(rest)
                rest, size, number = [line], len(line), number + 1
            if size > LONGEST_LINE:
                raise UserError(
                    f"line {number:,} of {name} is longer than {LONGEST_LINE:,} bytes: break it into lines"
                )
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error}): give lines of text") from error
    if any(rest):
        yield b"".join(rest)


def windows(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in windows; smaller ones where items come slowly, so that each is answered soon."""
    arrived: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(maxsize=2 * _WINDOW)

    def read() -> None:
        try:
            for item in items:
                arrived.put((item,))
            arrived.put(None)
        except Exception as error:  # raised again by the main thread
            arrived.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    window: list[Item] = []
    while True:
        try:
            next_one = arrived.get(timeout=_PAUSE)
        except queue.Empty:
            stopping.check()
            if window:
                yield window
                window = []
            continue
        if isinstance(next_one, tuple):
            window.append(next_one[0])
        if window and (not isinstance(next_one, tuple) or len(window) == _WINDOW):
            yield window
            window = []
        if isinstance(next_one, BaseException):
            raise next_one
        if next_one is None:
            return


def decoded(lines: Iterable[bytes], counts: Counter[str]) -> Iterator[str]:
    """Lines of text without line ends. A byte order mark before the first one is dropped, and bytes that are
    not UTF-8 become U+FFFD, which is counted."""
    for number, line in enumerate(lines):
        yield _decoded(line if number else line.removeprefix(codecs.BOM_UTF8), counts)


def _decoded(line: bytes, counts: Counter[str]) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        counts[_NOT_UTF8] += 1
    return text.rstrip("\r\n")
