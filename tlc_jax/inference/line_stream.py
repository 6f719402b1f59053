"""A stream of lines: read as they come, computed in windows, and answered in order, whatever they hold."""

from __future__ import annotations

import codecs
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from rich.console import Console

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError
from tlc_jax.core.printable import printable
from tlc_jax.core.progress import stage

Respond = Callable[[int, list[str], Counter[str]], Iterable[str]]
"""(number of the first line, a window of lines, counts of what is printed in the end) -> what is written for
each line."""

_WINDOW = 512  # lines that are sorted by length and computed together
LONGEST_LINE = 1 << 20  # bytes: longer than any sentence
_NOT_UTF8 = "held bytes that are not UTF-8, each replaced by U+FFFD"
_PAUSE = 0.2  # seconds without a further line after which the lines so far are computed


def answer_stream(
    lines: Iterable[bytes],
    write: Callable[[str], object],
    respond: Respond,
    console: Console,
    doing: str,
    done: str,
) -> None:
    """Write what `respond` says of each line, in order.

    A byte order mark before the first line is dropped, and bytes that are not UTF-8 become U+FFFD. What was
    counted is printed at the end. Interrupted and UserError say how many lines are `done`.
    """
    counts: Counter[str] = Counter()
    number = 0
    try:
        with stage(console, doing, None, "lines") as advance:
            for window in windows(lines, counts):
                stopping.check()
                for answer in respond(number, window, counts):
                    write(answer)
                    number += 1
                advance(len(window))
    except (Interrupted, UserError) as error:
        so_far = f"{number:,} lines are {done}; to resume, give the lines from {number + 1:,} on"
        if isinstance(error, Interrupted):
            raise Interrupted(f"interrupted: {so_far}") from error
        raise UserError(f"{error}. {so_far[0].upper()}{so_far[1:]}") from error
    finally:
        for what, count in counts.items():
            if count:
                console.print(f"{count:,} of {number:,} lines {what}")


def standard_streams() -> tuple[Iterator[bytes], Callable[[str], None]]:
    """The lines of standard input, and what writes to standard output; UserError where either is closed."""
    if sys.stdin is None or sys.stdout is None or getattr(sys.stdout, "lost", None):
        raise UserError("standard input or output is closed: read lines with < FILE and write with > FILE")
    return lines_of(sys.stdin.fileno()), writer_to(sys.stdout.buffer)


def writer_to(output: BinaryIO) -> Callable[[str], None]:
    """A function that writes text and flushes it; SaveFailed where that fails. Control characters are spelled
    out on a terminal, since anybody may have made the model."""
    terminal = output.isatty()

    def write(text: str) -> None:
        if terminal:
            text = "\n".join(printable(line, len(line)) for line in text.split("\n"))
        try:
            output.write(text.encode())
            output.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SaveFailed(f"standard output cannot be written: {error}") from error

    return write


def lines_of(descriptor: int) -> Iterator[bytes]:
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
                    f"line {number:,} of standard input is longer than {LONGEST_LINE:,} bytes: break it into "
                    "lines"
                )
    except OSError as error:
        raise UserError(f"standard input cannot be read ({error}): give lines of text") from error
    if any(rest):
        yield b"".join(rest)


def windows(lines: Iterable[bytes], counts: Counter[str]) -> Iterator[list[str]]:
    """The lines in windows; smaller ones where lines come slowly, so that each is answered soon."""
    arrived: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=2 * _WINDOW)

    def read() -> None:
        try:
            for number, line in enumerate(lines):
                arrived.put(_decoded(line if number else line.removeprefix(codecs.BOM_UTF8), counts))
            arrived.put(None)
        except Exception as error:  # raised again by the main thread
            arrived.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    window: list[str] = []
    while True:
        try:
            line = arrived.get(timeout=_PAUSE)
        except queue.Empty:
            stopping.check()
            if window:
                yield window
                window = []
            continue
        if isinstance(line, str):
            window.append(line)
        if window and (not isinstance(line, str) or len(window) == _WINDOW):
            yield window
            window = []
        if isinstance(line, BaseException):
            raise line
        if line is None:
            return


def _decoded(line: bytes, counts: Counter[str]) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        counts[_NOT_UTF8] += 1
    return text.rstrip("\r\n")
