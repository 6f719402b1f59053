"""All runs of a study are trained on the same data, so that their sizes can be compared.

Each result names its data by the identity under which they were prepared. Before anything is trained,
existing runs and results must agree, and the files that the data are made of must be those of the first run;
`data.json` keeps their SHA-256 to report which of them changed. Later runs reuse the first run's prepared
data, which another version of this program might prepare differently.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core import stopping
from tlc_jax.core.command_line import options_below
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.core.schema import Name, Sha256, TypedDict, checked, record
from tlc_jax.runs.begin import Begin
from tlc_jax.storage import sealed
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, make_folder, parse_path
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.studies.item_store import StageData
from tlc_jax.tasks.kinds import kind_of

Data = dict[str, StageData]
"""By stage, 'train' and 'finetune'."""
_REMEDY = "Restore the original files, or begin a study of the new data in a new --workdir"
SOURCES = "data.json"
_LARGEST = 1 << 30  # bytes of data.json, which has a line per file


@record
class _Sources(TypedDict):
    """The files that the data of a stage were prepared from."""

    identity: Sha256
    description: Name
    files: dict[str, Sha256]


def run_data(folder: AnyPath) -> StageData | None:
    """The identity of a run's prepared data; None before it has any."""
    data = RunDir(folder).data
    if not sealed.is_sealed(data):
        return None
    try:
        manifest = sealed.read_manifest(data)
        tokenizer = manifest["files"]["tokenizer.json"]["sha256"]
        return checked({"identity": manifest["identity"], "tokenizer": tokenizer}, StageData)
    except (sealed.Damaged, KeyError, ValueError) as error:
        raise UserError(f"{data} is not the prepared data of a run ({error}): restore its files") from error


class SameData:
    """The data of each stage: the first run or result that used them, and the files they were made from."""

    def __init__(self, path: AnyPath):
        self._path = path
        self._sources = self._stored()
        self._known: dict[str, tuple[str, StageData]] = {}
        self._first: dict[str, RunDir] = {}

    def _stored(self) -> dict[str, _Sources]:
        if not self._path.exists():
            return {}
        try:
            return checked(read_json(self._path, _LARGEST), dict[str, _Sources])
        except ValueError as error:
            raise UserError(
                f"{self._path} cannot be used ({error}): restore the study's own file, or remove it"
            ) from error

    def meet_run(self, stage: str, folder: AnyPath) -> None:
        """Record the data of a run, if it has any; UserError if they are not the stage's."""
        if (data := run_data(folder)) is not None:
            self.meet(str(folder), {stage: data})
            self._first.setdefault(stage, RunDir(folder))

    def meet(self, owner: str, data: Data) -> None:
        """Record the data of a run or result, named `owner`; UserError if they are not the stage's."""
        for stage, used in data.items():
            first, expected = self._known.setdefault(stage, (owner, used))
            if used == expected:
                continue
            what = "identity" if used["identity"] != expected["identity"] else "tokenizer"
            raise UserError(
                f"{owner} and {first} were made with different {_named(stage)}: their {what} is "
                f"{used[what][:16]} and {expected[what][:16]}. Models are compared on the same data only: "
                "remove the run and its results, or begin in a new --workdir"
            )

    def are_sources(self, stage: str, config: Config) -> bool:
        """Whether the data that a config names are the files from which the stage was prepared."""
        before = self._sources.get(stage)
        try:
            return before is not None and _read_sources(config)[1] == before["files"]
        except UserError:  # there are none
            return False

    def check_sources(self, stage: str, config: Config) -> None:
        """UserError if files have changed since the first run of the stage read them; it names them."""
        before = self._sources.get(stage)
        owner, expected = self._known.get(stage, (str(self._path), before))
        if before is None or expected is None or before["identity"] != expected["identity"]:
            return  # the files of the first run are not recorded: `prepare` compares identities
        description, files = _read_sources(config)
        if changed := _changes(before["files"], files):
            raise UserError(
                f"the {_named(stage)} ({description}) have changed since {owner} was made: {changed}. "
                f"{_REMEDY}"
            )

    def prepare(self, stage: str, config: Config, begin: Begin, console: Console) -> RunDir | None:
        """Prepare the data of a run that has none and begins so. Returns the run whose data it reuses, None
        if there is none. UserError if the data are not those of the stage, InUse while another process
        prepares the stage's first."""
        if stage in self._first:
            self.check_sources(stage, config)
            return self._first[stage]
        lease = self._path.parent / "leases" / f"{stage}-data"
        make_folder(lease)
        with locked(lease, wait=False), options_below(stage):
            self._sources = self._stored()  # another process may have prepared them
            self.check_sources(stage, config)
            self._prepare(stage, config, begin, console)
        return None

    def _prepare(self, stage: str, config: Config, begin: Begin, console: Console) -> None:
        description, files = _read_sources(config)
        resolved = begin.resolve(config)
        prepared = kind_of(resolved).prepare(resolved, console, pretrained=begin.pretrained)
        identity = prepared.manifest["identity"]
        before = self._sources.get(stage)
        owner, expected = self._known.get(stage, (str(self._path), before))
        if expected is not None and identity != expected["identity"]:
            raise UserError(
                f"the {_named(stage)} ({description}) are prepared as {identity[:16]}, but {owner} was made "
                f"with {expected['identity'][:16]}: the files have changed, or this version of tlc_jax "
                f"prepares them differently. {_REMEDY}"
            )
        if before is None or before["identity"] != identity:
            self._sources[stage] = _Sources(identity=identity, description=description, files=files)
            write_json(self._path, self._sources)


def _named(stage: str) -> str:
    return {"train": "training data", "finetune": "finetuning data"}[stage]


def _read_sources(config: Config) -> tuple[str, dict[str, str]]:
    """A description of the data's source, and the SHA-256 of each of its files by a name that does not depend
    on the folder that holds it."""
    data, kind = config.data, kind_of(config)
    opened = kind.source(config)
    files: dict[str, AnyPath] = dict(opened.files)
    if data.tokenizer is not None and kind.trains_tokenizer:
        files["data.tokenizer"] = parse_path(data.tokenizer).expanduser()

    def digest(path: AnyPath) -> str:
        stopping.check()
        return sealed.sha256(path)

    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, files.values()))
    names = (name.encode(errors="surrogateescape").decode(errors="backslashreplace") for name in files)
    return opened.description, dict(zip(names, digests, strict=True))


def _changes(before: dict[str, str], now: dict[str, str]) -> str:
    """A phrase that names the files that differ; '' if none does."""
    kinds = {
        "changed content": [name for name in before if name in now and now[name] != before[name]],
        "missing": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
    }
    return "; ".join(f"{kind}: {first_of(names)}" for kind, names in kinds.items() if names)
