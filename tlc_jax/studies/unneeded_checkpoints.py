"""Checkpoints that neither a study nor one that it may grow to can need: they are removed while it runs.

Of a search, those of the finetunings of all combinations but the best so far: what a study may grow by never
changes which one is chosen. Of a trunk, those of its marks and those from which branches begin, once all
branches are finished, since marks do not grow; its newest one stays. Every other finished run keeps its
checkpoints: more compressions, rounds of pruning and finetunings may begin from them. Metrics and configs
always stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tlc_jax.config.marks import branch_point, parse_mark
from tlc_jax.core.printable import counted
from tlc_jax.runs.saving import remove_checkpoints
from tlc_jax.storage.lock import InUse
from tlc_jax.studies.chosen import best_finetuned
from tlc_jax.studies.items import Item
from tlc_jax.studies.study_folder import StudyFolder


class UnneededCheckpoints:
    """Those of the runs of a study. What a killed process has not removed yet, the next one removes."""

    def __init__(self, items: Sequence[Item], study: StudyFolder):
        self._study = study
        self._searches: dict[tuple[str, ...], dict[object, list[str]]] = {}
        self._branches: dict[str, list[str]] = {}
        for item in items:
            if item.stage == "finetune":
                search = self._searches.setdefault(item.needs, {})
                search.setdefault(item.fields["combination"], []).append(item.name)
            elif item.stage == "branch":
                self._branches.setdefault(item.needs[-1], []).append(item.name)
        marks = [parse_mark(name) for name in study.config.branches]
        self._marks = {mark.name for mark in marks} | {branch_point(mark).name for mark in marks}
        self._removed: set[str] = set()

    def remove(self, finished: set[str]) -> None:
        """Remove what is not needed any more, now that these items are finished."""
        for run in self._not_chosen(finished):
            self._remove(run, None, "not chosen")
        for trunk, branches in self._branches.items():
            if finished.issuperset([trunk, *branches]):
                self._remove(trunk, self._marks, "all branches are finished")

    def _not_chosen(self, finished: set[str]) -> Iterator[str]:
        for search in self._searches.values():
            tried = {name: runs for name, runs in search.items() if finished.issuperset(runs)}
            if len(tried) > 1:
                results = (self._study.store.result(run) for runs in tried.values() for run in runs)
                best = best_finetuned(results)
                yield from (run for name, runs in tried.items() if name != best for run in runs)

    def _remove(self, run: str, marks: Collection[str] | None, why: str) -> None:
        rundir = self._study.run(run)
        if run in self._removed or not rundir.config.exists():
            return
        try:
            count = remove_checkpoints(rundir, marks)
        except InUse:  # another process removes them, or somebody trains on
            return
        self._removed.add(run)
        if count:
            removed = counted(count, "checkpoint")
            self._study.console.print(f"{run}: {why}; removed {removed} that nothing needs")
