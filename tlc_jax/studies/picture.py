"""Pictures as files, wherever they are to lie."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place, write_bytes

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure


def check_format(path: Place) -> None:
    """UserError where no picture can be written under that name: before work is done for one."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise UserError(f"--output {path} names no picture: end it in one of {', '.join(sorted(known))}")


def save(figure: Figure, path: Place) -> None:
    """In the format that the name of the file asks for."""
    check_format(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=130)
    write_bytes(path, picture.getvalue())
