"""A thread that must go on is a ``kernel.background.Background``; each other one says who notices when its body raises."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
BARE = {  # module.function or class -> who notices when its body raises, and what becomes of it
    "noria.cli.interrupts.heard_interrupts": "it sends one signal to this process; if it cannot, the user presses Ctrl-C again",
    "noria.cli.interrupts.hook": "the same",
    "noria.cli.demo.theatre.__init__": "the story waits for each chapter within a limit, and says for which it waited in vain",
    "noria.cli.demo.traffic.Client": "an error of a request is its answer: the story reads it",
    "noria.cli.demo.traffic.main": "who sends no more orders, or none that can be read, ends the traffic",
    "noria.delivery.rollout_controller.in_background": "the rollout controller raises it at its next look, and begins anew",
    "noria.kernel.background.__init__": "this is the supervision",
    "noria.pipeline.executors.child._die_with_parent": "it kills this process group however it ends",
    "noria.pipeline.executors.pool.__init__": "whatever it is, it is the job's end, and who waits for the job goes on",
    "noria.pipeline.executors.pool._timer": "a pool that is not filled up: the next job starts its own process",
    "noria.serving.__main__.end_with": "it ends this process however it ends",
    "noria.serving.client._spawn": "a zombie stays until this process ends: nobody waits for it",
    "noria.serving.host.__init__": "the host ends with it, and another is started: what waits is answered by that one",
    "noria.storage.lease.__init__": "an error is told and tried again; that another engine took over, `check` tells",
}
KINDS = ("threading.Thread", "threading.Timer", "Thread", "Timer")


def _begins(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in KINDS


def _found(module: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)) if any(kind in text for kind in KINDS) else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            begins = any(map(_begins, ast.walk(node)))
        else:
            begins = isinstance(node, ast.ClassDef) and any(ast.unparse(base) in KINDS for base in node.bases)
        if begins:
            yield f"{module}.{node.name}"  # type: ignore[attr-defined]


def test_each_bare_thread_says_who_notices_its_end() -> None:
    found = set()
    for path in sorted((SOURCE / "noria").rglob("*.py")):
        found |= set(_found(".".join(path.relative_to(SOURCE).with_suffix("").parts), path.read_text()))
    assert found == set(BARE), "let noria.kernel.background supervise it, or say here who notices when it ends"


def test_the_search_finds_threads() -> None:
    for text in (
        "def f():\n    threading.Thread(target=f).start()",
        "def f():\n    Timer(1, f)",
        "class f(threading.Thread):\n    pass",
    ):
        assert list(_found("m", text)) == ["m.f"]
    assert list(_found("m", "def f():\n    ThreadPoolExecutor(2)")) == []
