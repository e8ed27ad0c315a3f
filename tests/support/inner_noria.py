"""The command line in this process, its steps too (`InnerPool`): for tests of what a command does, not of its processes.

A `noria run` in real processes takes five processor seconds, nearly all of them imports of scikit-learn and of the converter to
ONNX in one step process after the other. Here they are imported once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from small_line import InnerPool

from noria import cli


class _InnerPool(InnerPool):
    def __init__(self, **_: Any) -> None:
        super().__init__()


@contextlib.contextmanager
def _world(home: Path, env: Mapping[str, str]) -> Iterator[None]:
    """The folder, the environment and the lenience to warnings of a process of its own."""
    here, before, path, known = Path.cwd(), dict(os.environ), list(sys.path), set(sys.modules)
    os.environ.update(env)
    os.chdir(home)
    try:
        with (
            warnings.catch_warnings(),
            mock.patch("noria.pipeline.executors.pool.Pool", _InnerPool),
            mock.patch("noria.engine.reproduce.Pool", _InnerPool),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
        for name in set(sys.modules) - known:  # what was imported of the project: the next one has modules of these names
            if str(getattr(sys.modules[name], "__file__", "")).startswith(f"{home.parent}/"):
                del sys.modules[name]


def noria(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Runs a command in a project's folder; its exit code, and what it printed on standard output and standard error."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with (
        _world(home, {"NORIA_WARM": "0", **(env or {})}),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        code = cli.execute(list(arguments))
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]  # a BytesIO
    assert "Traceback" not in err, err
    return code, out, err
