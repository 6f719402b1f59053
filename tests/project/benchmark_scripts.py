"""Scripts of benchmarks/, imported as they import each other."""

from __future__ import annotations

import importlib.util
import sys
import types

import pytest

from tests.project.documents import ROOT


def load_benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    folder = ROOT / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module
