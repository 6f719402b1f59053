"""A study for others: a page to read, all of its rows as a table for other programs, or a copy to hand on."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import parse_path, write_bytes
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.markdown_page import write_page
from tlc_jax.studies.shared_study import share_study

if TYPE_CHECKING:  # slow to import
    import pyarrow


def export_study(workdir: str, output: str) -> None:
    """Write the study in a folder to a file, in the format of its suffix: a page (.md), or its rows without
    the scores of examples (.parquet, .csv); to a new folder (no suffix) as a copy in two files."""
    study, path = parse_path(workdir), parse_path(output)
    if not (study / STUDY).is_file():
        raise UserError(f"{workdir} holds no study: give the --workdir of one")
    if path.suffix and path.suffix.lower() not in (_PAGE, *_WRITERS):
        raise UserError(
            f"--output {output} is neither a page nor a table: end it in {', '.join((_PAGE, *_WRITERS))}, or "
            "name a new folder"
        )
    if path.suffix:
        check_writable(path, "--output")
    table = ItemStore(study).table()
    if not table.num_rows:
        raise UserError(f"{workdir} has no finished item yet: resume it first")
    if not path.suffix:
        share_study(study, path)
        return
    if path.suffix.lower() == _PAGE:
        write_page(study, path)
        print(f"written to {output}, with its pictures beside it")
        return
    content = io.BytesIO()
    _WRITERS[path.suffix.lower()](table, content)
    write_bytes(path, content.getvalue())
    print(f"{counted(table.num_rows, 'row')} with {counted(table.num_columns, 'column')} in {output}")


def _write_parquet(table: pyarrow.Table, content: io.BytesIO) -> None:
    from pyarrow import parquet

    parquet.write_table(table, content)


def _write_csv(table: pyarrow.Table, content: io.BytesIO) -> None:
    from pyarrow import csv

    csv.write_csv(table, content)


_PAGE = ".md"
_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv}
