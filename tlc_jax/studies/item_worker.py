"""What a process does that works on a study: it takes items that are ready and that nobody else has, until
none is left.

Any number of processes, on any number of machines that share the study's folder, may work on it. An item is
leased while it is done: the lease of a process that dies is free again (in a bucket after three minutes), and
its run is resumed. The first sealed result of an item counts.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from tlc_jax.core import stopping
from tlc_jax.core.entry_point import run_command
from tlc_jax.storage.lock import InUse, locked
from tlc_jax.storage.paths import make_folder, parse_path
from tlc_jax.studies.compress_item import compress_items
from tlc_jax.studies.errors_item import errors_item
from tlc_jax.studies.failed_items import attempted, failed, failure_of_needs, sealed
from tlc_jax.studies.item_store import Result
from tlc_jax.studies.items import Item, items_of
from tlc_jax.studies.memory_item import memory_item
from tlc_jax.studies.pretrained_item import pretrained_item
from tlc_jax.studies.recover_item import recover_item
from tlc_jax.studies.study_folder import StudyFolder, open_study
from tlc_jax.studies.study_record import read_config
from tlc_jax.studies.timings import time_update, timings_to_repeat
from tlc_jax.studies.train_item import train_item
from tlc_jax.studies.unneeded_checkpoints import UnneededCheckpoints
from tlc_jax.training.view import make_console

_PAUSE = 2.0  # seconds between looks for an item that is ready
_DO = {
    "pretrained": pretrained_item,
    "timing": time_update,
    "recover": recover_item,
    "errors": errors_item,
    "memory": memory_item,
}


def work(study: StudyFolder) -> None:
    """Do items until all are finished, by this process or others. UserError and Interrupted as `train`
    raises them."""
    items, waiting = items_of(study.config), False
    items = [*timings_to_repeat(items, study), *items]
    unneeded = UnneededCheckpoints(items, study)
    while True:
        finished = study.store.finished()
        unneeded.remove(finished)
        if not (unfinished := [item for item in items if item.name not in finished]):
            return
        stopping.check()
        if any(_try(group, study) for group in _ready(unfinished, finished)):
            waiting = False
            continue
        if not waiting:
            study.console.print(f"waiting for other processes: {len(unfinished)} items are not finished")
            waiting = True
        time.sleep(_PAUSE)


def _ready(unfinished: Sequence[Item], finished: set[str]) -> Iterable[list[Item]]:
    """The items that need nothing unfinished, those of one lease together, in their order. Nothing else is
    done while an update is still to be timed."""
    unfinished = [item for item in unfinished if item.stage == "timing"] or unfinished
    ready = [item for item in unfinished if finished.issuperset(item.needs)]
    return [list(group) for _, group in itertools.groupby(ready, key=lambda item: item.lease)]


def _try(group: list[Item], study: StudyFolder) -> bool:
    """Do the items of a lease, unless another process has it. Whether anything was done."""
    folder = study.workdir / "leases" / group[0].lease
    make_folder(folder)
    try:
        with locked(folder, wait=False):
            left = [item for item in group if not study.store.has(item.name)]  # since the last look
            for result in _results(left, study):
                _seal(result, study)
    except InUse:
        return False
    return True


def _results(items: list[Item], study: StudyFolder) -> Iterator[Result]:
    """The results of items of one lease; those that rest on a failed item fail, too."""
    able: list[Item] = []
    for item in items:
        if failure := failure_of_needs(item, study.store):
            yield failed(item, failure)
        else:
            able.append(item)
    if able and able[0].compresses:
        yield from compress_items(able, study)
        return
    for item in able:
        yield attempted(item, functools.partial(_DO.get(item.stage, train_item), item, study))


def _seal(result: Result, study: StudyFolder) -> None:
    failure = sealed(result, study.store).get("failed")
    if failure and failure["item"] == result["item"]:
        study.console.print(
            f"{result['item']} has failed: {failure['reason']}; the study continues without it"
        )


def main() -> None:
    """Work on the study in the folder that is the only argument: what `study --workers` starts."""
    workdir = parse_path(sys.argv[1])
    config = read_config(workdir)
    assert config is not None, f"{workdir} holds no study"
    work(open_study(config, workdir, make_console()))


if __name__ == "__main__":
    run_command(main)
