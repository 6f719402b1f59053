"""A copy of a study to hand on: its config and its results in two files, without what is only true of this
machine.

It can be read like the study, by every report, and grows like it where its data are at hand.
"""

from __future__ import annotations

import gzip
import json

from tlc_jax.config import DataConfig
from tlc_jax.config.given_checkpoints import parse_given, without_folders
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import AnyPath, make_folder, parse_path, write_bytes
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.item_store import PACKED, ItemStore, Result, sealed

_OF_THE_MACHINE = ("command",)
"""What an item says of how it was made that names paths."""


def share_study(study: AnyPath, output: AnyPath) -> None:
    """Write the finished items of a study and its config to a new folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is not empty: give a new folder")
    results = [*ItemStore(study).results()]
    lines = [json.dumps(sealed(_without_paths(result)), allow_nan=False) for result in results]
    config = read_json(study / STUDY)
    for stage in ("train", "finetune"):
        if config.get(stage):
            data = config[stage]["data"]
            data["dir"] = data["dir"] and parse_path(data["dir"]).name
            data["cache_dir"] = DataConfig().cache_dir
    if given := config.get("pretrained"):
        config["pretrained"] = [str(without_folders(each)) for each in map(parse_given, given)]
    make_folder(output)
    write_bytes(output / STUDY, (json.dumps(config, indent=1) + "\n").encode())
    content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0)
    write_bytes(output / PACKED, content)
    print(f"{counted(len(results), 'item')} in {output}, {len(content) / 1000:,.0f} kB")


def _without_paths(result: Result) -> Result:
    made = {name: value for name, value in result["made"].items() if name not in _OF_THE_MACHINE}
    return {**result, "made": made}
