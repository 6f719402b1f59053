"""Pictures as files, wherever they are to lie."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, write_bytes
from tlc_jax.storage.writable import check_writable

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure


def check_picture(path: AnyPath) -> None:
    """UserError where no picture can be written under that name: before work is done for one."""
    from matplotlib.backend_bases import FigureCanvasBase

    # pgf needs a TeX that need not be there
    known = sorted(kind for kind in FigureCanvasBase.get_supported_filetypes() if kind != "pgf")
    if path.suffix.removeprefix(".").lower() not in known:
        raise UserError(f"--output {path} names no picture: end it in one of {', '.join(known)}")
    check_writable(path, "--output")


def plain(text: str) -> str:
    """As a label, character by character: matplotlib takes what is between dollars for mathematics, and
    leaves out of a legend what begins with _."""
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def save(figure: Figure, path: AnyPath) -> None:
    """In the format that the name of the file asks for."""
    check_picture(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=130)
    write_bytes(path, picture.getvalue())
