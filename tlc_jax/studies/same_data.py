"""Sizes are compared on one and the same data: what a study is trained on may not change between its runs.

Each result names the data that it rests on, by the identity under which they were prepared. Before anything
is trained, the runs and results that are there must agree, and the files that the data are made of must be
those of the first run; `data.json` keeps their SHA-256, to say which one changed. Further runs take over the
first run's data, which another version of this program would perhaps prepare in another way.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from tlc_jax.config import ClassificationConfig, Config, DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.schema import Name, Sha256, TypedDict, checked, record
from tlc_jax.data.labelled.labelled_source import open_labelled
from tlc_jax.data.text.sources import open_source
from tlc_jax.runs.initial_checkpoint import with_source
from tlc_jax.storage import sealed
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.results import StageData
from tlc_jax.tasks.build import prepare_data

Data = dict[str, StageData]
"""By stage, 'pretrain' and 'finetune'."""
_TODO = "Put back what the study began with, or begin a study of the new data in a new --workdir"
_LARGEST = 1 << 30  # bytes of data.json: a line for each file
_MOST_NAMES = 5


@record
class _Sources(TypedDict):
    """The files that the data of a stage were prepared from."""

    identity: Sha256
    description: Name
    files: dict[str, Sha256]


def run_data(folder: AnyPath) -> StageData | None:
    """The data that a run has, None before it has any."""
    data = RunDir(folder).data
    if not sealed.is_sealed(data):
        return None
    try:
        manifest = sealed.read_manifest(data)
        tokenizer = manifest["files"]["tokenizer.json"]["sha256"]
        return checked({"identity": manifest["identity"], "tokenizer": tokenizer}, StageData)
    except (sealed.Damaged, KeyError, ValueError) as error:
        raise UserError(f"{data} is not the data of a run ({error}): put its own files back") from error


class SameData:
    """What is known of the data of each stage: who has them, and from which files they were prepared."""

    def __init__(self, path: AnyPath):
        self._path = path
        self._sources: dict[str, _Sources] = {}
        if path.exists():
            try:
                self._sources = checked(read_json(path, _LARGEST), dict[str, _Sources])
            except ValueError as error:
                raise UserError(
                    f"{path} cannot be used ({error}): put the study's own file back, or remove it"
                ) from error
        self._known: dict[str, tuple[str, StageData]] = {}
        self._first: dict[str, RunDir] = {}

    def knows(self, stage: str) -> bool:
        """Whether any run or result of the stage is there."""
        return stage in self._known

    def meet_run(self, stage: str, folder: AnyPath) -> None:
        """A run, if it has data yet: UserError where they are others than those before."""
        if (data := run_data(folder)) is not None:
            self.meet(str(folder), {stage: data})
            self._first.setdefault(stage, RunDir(folder))

    def meet(self, who: str, data: Data) -> None:
        """UserError where `who` has other data than those before."""
        for stage, own in data.items():
            other, expected = self._known.setdefault(stage, (who, own))
            if own == expected:
                continue
            what = "identity" if own["identity"] != expected["identity"] else "tokenizer"
            raise UserError(
                f"{who} was made with other {_named(stage)} than {other}: their {what} is {own[what][:16]}, "
                f"not {expected[what][:16]}. Models of unlike data are not compared: remove the run and its "
                "results, or begin in a new --workdir"
            )

    def check_sources(self, stage: str, config: Config) -> None:
        """UserError naming the files that have changed since the first run of the stage read them."""
        known, before = self._known.get(stage), self._sources.get(stage)
        if known is None or before is None or before["identity"] != known[1]["identity"]:
            return  # what the data were is known only when they are prepared again
        description, files = _read_sources(config)
        if changed := _changes(before["files"], files):
            raise UserError(
                f"the {_named(stage)} ({description}) have changed since {known[0]} was made: {changed}. "
                f"{_TODO}"
            )

    def prepare(self, stage: str, config: Config, source: RunDir | None, console: Console) -> RunDir | None:
        """For a run that has no data yet, and starts from `source`: the run whose data it takes over. None
        where there is none: then they are prepared. UserError where those are not the data of the stage."""
        self.check_sources(stage, config)
        if stage in self._first:
            return self._first[stage]
        description, files = _read_sources(config)
        whole = config if source is None else with_source(config, config, source)
        identity, known = prepare_data(whole, console).manifest["identity"], self._known.get(stage)
        if known is not None and identity != known[1]["identity"]:
            raise UserError(
                f"the {_named(stage)} ({description}) are prepared as {identity[:16]}, but {known[0]} was "
                f"made with {known[1]['identity'][:16]}: the files have changed, or this version of tlc_jax "
                f"prepares them in another way. {_TODO}"
            )
        if stage not in self._sources or self._sources[stage]["identity"] != identity:
            self._sources[stage] = _Sources(identity=identity, description=description, files=files)
            write_json(self._path, self._sources)
        return None


def _named(stage: str) -> str:
    return {"pretrain": "pretraining data", "finetune": "finetuning data"}[stage]


def _read_sources(config: Config) -> tuple[str, dict[str, str]]:
    """What the data are made of in words, and the SHA-256 of each file, by a name that does not depend on
    where it lies."""
    data = config.data
    assert isinstance(data, DataConfig)
    opened = open_labelled(data) if isinstance(config.task, ClassificationConfig) else open_source(data)
    files: dict[str, AnyPath] = dict(opened.files)
    if data.tokenizer is not None and not isinstance(config.task, ClassificationConfig):
        files["data.tokenizer"] = parse_path(data.tokenizer).expanduser()

    def digest(path: AnyPath) -> str:
        stopping.check()
        return sealed.sha256(path)

    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, files.values()))
    names = (name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in files)
    return opened.description, dict(zip(names, digests, strict=True))


def _changes(before: dict[str, str], now: dict[str, str]) -> str:
    """In words; '' where nothing has changed."""
    kinds = {
        "other content": [name for name in before if name in now and now[name] != before[name]],
        "missing": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }
    return "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds.items() if names)


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
