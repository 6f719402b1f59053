"""What a check is: it is given the run that is planned, and says what it has seen or what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from tlc_jax.config import Config
from tlc_jax.core import command_line
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.invocation import command
from tlc_jax.core.requirements import module_package, version_of

PACKAGE = "tlc-jax"
INSTALL = f"pip install {PACKAGE}"


@dataclass(frozen=True)
class Plan:
    """What is to be started on this machine. `name` is its command, `train` or `study`; `arguments` are those
    of the command line; `configs` say which data are used, and `models` which models are trained."""

    name: str
    arguments: tuple[str, ...]
    configs: tuple[Config, ...]
    models: tuple[Config, ...]
    workdir: str | None = None
    init_from: str | None = None

    def stage(self, config: Config) -> str:
        """What stands before the options of one of `configs`."""
        if self.name == "train":
            return ""
        return "train." if config is self.configs[0] else "finetune."

    def again(self, **options: str) -> str:
        """The command of `doctor` with other values of these options; an underscore stands for a hyphen."""
        named = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        return f"{command('doctor')} {command_line.changed(self.arguments, {**named})}".strip()


@dataclass(frozen=True)
class Check:
    """`run` returns what it has seen, in a few words. It raises Failed with a command that mends what is
    wrong or, for what it did not foresee, anything else: then `hint` is the command.

    `needs` are earlier checks without which this one says nothing new.
    """

    name: str
    run: Callable[[Plan], str]
    hint: str
    needs: tuple[str, ...] = ()


class Failed(Exception):
    """What is wrong, and the command that mends it."""

    def __init__(self, detail: str, hint: str):
        super().__init__(detail)
        self.detail, self.hint = detail, hint


@dataclass(frozen=True)
class Result:
    """Of one check. `hint` is a command to be pasted; '' where nothing is wrong."""

    name: str
    ok: bool
    detail: str
    hint: str


def results(checks: Sequence[Check], plan: Plan) -> Iterator[Result]:
    """The result of each check, as soon as it is there."""
    failed: dict[str, Result] = {}
    for check in checks:
        first = next((failed[name] for name in check.needs if name in failed), None)
        if first is None:
            result = result_of(check, plan)
        else:
            result = Result(check.name, False, f"not checked: mend {first.name} first", first.hint)
        if not result.ok:
            failed[check.name] = first or result
        yield result


def result_of(check: Check, plan: Plan) -> Result:
    """The result of one check, whatever it raises."""
    try:
        return Result(check.name, True, check.run(plan), "")
    except Failed as failure:
        return Result(check.name, False, failure.detail, failure.hint)
    except Exception as error:  # whatever is broken here is what a check is for
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        hint = install_again(error.name or "") if isinstance(error, ImportError) else check.hint
        return Result(check.name, False, f"{kind}{one_line(error)}", hint)


def hint_of(names: Collection[str]) -> str:
    """The command that installs packages."""
    return f"pip install {' '.join(shlex.quote(name) for name in names)}"


def install_again(module: str) -> str:
    """The command that mends the package of a module that cannot be imported. Without --force-reinstall pip
    leaves alone what is installed in the right version, whatever is left of it."""
    package = module_package(module)
    if package is None or package == PACKAGE:
        return INSTALL
    return f"pip install --force-reinstall --no-deps {shlex.quote(f'{package}=={version_of(package)}')}"
