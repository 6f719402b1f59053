"""The rows of a study as one table, for other programs: Parquet or CSV, without the scores of examples."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import parse_path, write_bytes
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.item_store import ItemStore

if TYPE_CHECKING:  # slow to import
    import pyarrow


def export_rows(workdir: str, output: str) -> None:
    """Write all rows of the study in a folder to a file, in the format of its suffix, .parquet or .csv."""
    study, path = parse_path(workdir), parse_path(output)
    if not (study / STUDY).is_file():
        raise UserError(f"{workdir} holds no study: give the --workdir of one")
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"--output {output} is no table: end it in {' or '.join(_WRITERS)}")
    check_writable(path, "--output")
    table = ItemStore(study).table()
    if not table.num_rows:
        raise UserError(f"{workdir} has no finished item yet: resume it first")
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


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv}
