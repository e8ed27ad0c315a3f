"""What a step process imports before its job comes: a job never waits for libraries that it does not need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from noria.pipeline.executors.limits import JobEnd, PoolWork
from noria.pipeline.executors.pool import Pool, StepProcess

FIRST = "import pathlib, time\ngo = pathlib.Path(__file__).with_name('go')\nwhile not go.exists(): time.sleep(0.01)\n"
STEP = """\
import sys

def said(job): return {"second": "second" in sys.modules}

def whose(job):
    import second
    return {"of": second.OF}
"""


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``first`` is imported for as long as no job was handed over, ``second`` comes after it."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    (folder / "first.py").write_text(FIRST)
    (folder / "second.py").write_text("OF = 'the library'\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    send = StepProcess.send

    def sent(child: StepProcess, *order: Any) -> None:
        send(child, *order)
        (folder / "go").touch()

    monkeypatch.setattr(StepProcess, "send", sent)


def run(tmp_path: Path, name: str, **modules: str) -> JobEnd:
    tree = tmp_path / "tree"
    tree.mkdir()
    for module, text in {"steps": STEP, **modules}.items():
        (tree / f"{module}.py").write_text(text)
    work = PoolWork(f"steps:{name}", {}, tmp_path, (tree,), dict(os.environ), 60, None, tmp_path / "step.log")
    with Pool(size=0, preload=("first", "second")) as pool:
        return pool.submit(work).wait()


@pytest.mark.usefixtures("libraries")
def test_a_job_does_not_wait_for_what_it_does_not_import(tmp_path: Path) -> None:
    done = run(tmp_path, "said")
    assert (done.kind, done.result) == ("ok", {"second": False})


@pytest.mark.usefixtures("libraries")
def test_a_module_of_the_project_never_takes_a_librarys_place(tmp_path: Path) -> None:
    """Whether the job came early or late, the same module answers to the name."""
    done = run(tmp_path, "whose", second="OF = 'the project'\n")
    assert (done.kind, done.result) == ("ok", {"of": "the library"})
