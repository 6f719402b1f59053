"""`python -m tlc_jax.prepare NAME --out DIR`: get a data set, in the formats that the other commands read."""

from __future__ import annotations

import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a data set to a new folder, which --data.dir of the other commands takes. It is downloaded from
    the Hugging Face hub (extra `hf`), or read from files that --input names. The same command resumes what
    was interrupted.

    NAME is glue/cola, glue/sst2, glue/mnli, glue/mrpc, glue/qqp, glue/qnli, glue/rte, glue/wnli,
    wmt14_translate/fr-en, wikipedia, enwiki or pg19; or, for any other data, their kind: text, labelled or
    pairs."""

    name: cli.Positional[str]
    """A public data set, or the kind of other data."""
    out: str
    """The new folder."""
    input: tuple[str, ...] = ()
    """Files, folders, globs or archives in place of a download, or hf://datasets/OWNER/NAME/FILES."""
    revision: str | None = None
    """Commit, tag or branch on the hub. None: the newest, whose commit the manifest names."""
    columns: tuple[str, ...] = ()
    """Fields with the columns to take for them, such as text=review label=stars, or en=english fr=french."""
    licence: str | None = None
    """The licence of the data, for the manifest. None: what the hub says."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Prepare, argv)
    columns = dict(_column(text) for text in args.columns)
    from tlc_jax.core.console import SafeConsole
    from tlc_jax.data.preparation.preparation_plan import Request
    from tlc_jax.data.preparation.preparing import prepare_data
    from tlc_jax.storage.paths import local_folder

    if "://" in args.out:
        raise UserError(
            f"--out {args.out} is no folder on this machine: give one, and copy it there when it is done"
        )
    out = local_folder(args.out, "an --out").absolute()
    request = Request(args.name, out, args.input, args.revision, columns, args.licence)
    prepare_data(request, SafeConsole())


def _column(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or not field or not column:
        raise UserError(f"--columns {text} is not FIELD=COLUMN, such as text=review")
    return field, column


if __name__ == "__main__":
    run_command(main)
