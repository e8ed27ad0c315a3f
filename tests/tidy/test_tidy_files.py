"""A file is written, gets its name, and lasts, by ``storage.disk`` alone; who does otherwise says why."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CALLS = {"os.replace", "os.rename", "os.link", "os.fsync", "os.fdatasync"}
METHODS = {"replace", "rename", "hardlink_to"}  # of a path: the one argument is its new name
FOLDER = "a folder, made beside and then named"
STREAM = "a stream: lines are added to its end, each to last when the call returns"
TORN = "a stream: what a kill left of its last line is cut off, in place"
BY_HAND = {  # module.function -> why ``whole_file``, ``write_whole`` and ``whole_path`` do not fit
    "noria.cli.demo.theatre.arrive": "files of one arrival get their names together, within milliseconds",
    "noria.delivery.batch.parts.add": STREAM,
    "noria.delivery.batch.scoring._finish": "two files that a resumed job finds made: one mark for both, then their names",
    "noria.delivery.private_server.lay": FOLDER,
    "noria.delivery.standalone.from_store": FOLDER,
    "noria.delivery.standalone._unpack": FOLDER,
    "noria.delivery.standalone._link": "a second name of a file, in a folder that nobody sees yet",
    "noria.delivery.standalone.lay": FOLDER,
    "noria.pipeline.checkout.lay_out": FOLDER,
    "noria.pipeline.git.place": FOLDER,
    "noria.pipeline.interpreters._create": FOLDER,
    "noria.pipeline.search_study._cut_torn_end": TORN,
    "noria.predictions.compaction._write": "read back before it is named, and made in a folder that is emptied after a kill",
    "noria.predictions.segments._recover": TORN,
    "noria.predictions.writer._write": STREAM,
    "noria.predictions.writer._finish": STREAM,
    "noria.predictions.writer._sync": STREAM,
    "noria.releases.export_reader._unpack": FOLDER,
    "noria.releases.sealing.place": FOLDER,
}
SCRATCH = "in a folder of this call alone: gone after it, or named as a whole"
DEMO = "a file of the demo's own project, made again by the next demo"
IN_PLACE = {  # module.function -> why what it writes is not written whole
    "noria.cli.crash._write_crash": "a traceback for a person: half of one says more than none",
    "noria.cli.demo.__init__.command": DEMO,
    "noria.cli.demo.commits.muggy": DEMO,
    "noria.cli.demo.theatre.edit": DEMO,
    "noria.cli.demo.theatre.set_up": DEMO,
    "noria.cli.init._write": "the person's own files: an existing one keeps its links and rights",
    "noria.data.exchange.take": SCRATCH,
    "noria.data.rule_child.main": SCRATCH,
    "noria.data.rule_process.apart": SCRATCH,
    "noria.data.sources.sql.fetch": SCRATCH,
    "noria.delivery.batch.parts.add": "the journal names it once it is on disk",
    "noria.delivery.batch.parts.write_rejected": "gets its name at the job's end",
    "noria.delivery.batch.parts.write": "gets its name at the job's end",
    "noria.delivery.replay_process._run": SCRATCH,
    "noria.models.conversion.run": SCRATCH,
    "noria.models.foreign_model._keep": SCRATCH,
    "noria.models.foreign_model._package_model": SCRATCH,
    "noria.models.foreign_model.main": SCRATCH,
    "noria.models.table_arguments.write": SCRATCH,
    "noria.models.weights._apart": SCRATCH,
    "noria.models.weights.save": SCRATCH,
    "noria.pipeline.checkout._create_repository": SCRATCH,
    "noria.pipeline.checkout.worktree": SCRATCH,
    "noria.pipeline.executors.log.__enter__": "a stream: what a step prints, as it prints it",
    "noria.pipeline.interpreters._create": SCRATCH,
    "noria.pipeline.interpreters._pip": SCRATCH,
    "noria.releases.bundle.seal": SCRATCH,
    "noria.releases.bundle.write_manifest": SCRATCH,
    "noria.releases.export_reader.lay": SCRATCH,
    "noria.releases.importing._inspect_model": SCRATCH,
    "noria.releases.importing._seal_bundle": SCRATCH,
    "noria.releases.sealing._assemble": SCRATCH,
    "noria.serving.crashes.leave_last_words": "a stream: written by a fault that ends the process",
    "noria.serving.probe.be_the_first_to_go": "a setting of the kernel, no file",
    "noria.trust.verification._records": SCRATCH,
}


def _writes(node: ast.AST) -> bool:
    """Whether it is a call that makes a file, or empties one, to write to it."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    if called == "open" and ast.unparse(node.func) != "os.open":
        given = [*node.args[: 1 if isinstance(node.func, ast.Attribute) else 2], *(word.value for word in node.keywords)]
        return any(isinstance(one, ast.Constant) and one.value in ("w", "wb", "x", "xb", "w+b", "wt") for one in given)
    return called in ("write_text", "write_bytes", "NamedTemporaryFile", "mkstemp")


def _names_or_syncs(node: ast.AST) -> bool:
    """Whether it is a call that gives a file its name, or asks that it lasts. A table's columns are renamed by a dict."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    one = node.args[0] if len(node.args) == 1 and not node.keywords else None
    columns = isinstance(one, (ast.Dict, ast.DictComp)) or (isinstance(one, ast.Call) and ast.unparse(one.func) == "dict")
    return ast.unparse(node.func) in CALLS or (node.func.attr in METHODS and one is not None and not columns)


def _found(module: str, text: str, wanted: Callable[[ast.AST], bool]) -> Iterator[str]:
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(map(wanted, ast.walk(function))):
            yield f"{module}.{function.name}"


@pytest.mark.parametrize(("wanted", "reasons"), [(_names_or_syncs, BY_HAND), (_writes, IN_PLACE)])
def test_files_are_written_and_named_and_made_to_last_in_one_place(
    wanted: Callable[[ast.AST], bool], reasons: dict[str, str]
) -> None:
    found = set()
    for path in sorted((SOURCE / "noria").rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if not module.startswith("noria.storage."):
            found |= set(_found(module, path.read_text(), wanted))
    assert found == set(reasons), "write it with noria.storage.disk, or say here why not"


def test_the_search_tells_a_path_from_a_table_and_a_text() -> None:
    by_hand = ("os.fsync(f.fileno())", "os.replace(a, b)", "a.replace(b)", "a.with_name(x).rename(folder / x)")
    other = ("text.replace(a, b)", "table.rename({a: b})", "table.rename(dict(zip(a, b)))", "when.replace(tzinfo=UTC)")
    for line in (*by_hand, *other):
        assert bool([*_found("m", f"def f():\n    {line}", _names_or_syncs)]) == (line in by_hand), line
    written = ("a.write_text(t)", "(a / b).write_bytes(t)", "open(a, 'wb')", "a.open('x')", "a.open(mode='w')", "mkstemp()")
    read = ("a.open()", "open(a, 'rb')", "a.open('ab')", "os.open(a, os.O_RDONLY)", "file.write(t)")
    for line in (*written, *read):
        assert bool([*_found("m", f"def f():\n    {line}", _writes)]) == (line in written), line
