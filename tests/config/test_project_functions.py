"""The project's functions, read from source: the same arguments that ``inspect`` tells of the function once it is made."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from noria.config.document import DocumentItem
from noria.config.functions import FILE_LIMIT, HOPS, Function, PythonSource
from noria.kernel.errors import ConfigError

SIGNATURES = [
    "",
    "a",
    "a, b=1",
    "a, /, b, *, c, d=2",
    "a=1, /, b=2",
    "*args",
    "**more",
    "a, *args, b, **more",
    "a: int, b: 'dict[str, int]' = None, *, c: list = []",
    "a=(1, 2), b={'x': [1]}, c=lambda x: x",
    "ä, Ünder_1",
]


def source(home: Path, **files: str) -> PythonSource:
    """Files by their names without .py; a dot stands for a slash."""
    for name, text in files.items():
        path = home / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return PythonSource(home)


def item(target: str) -> DocumentItem:
    return DocumentItem(target, "noria.yaml:4:9", target)


def find(known: PythonSource, target: str) -> Function:
    found = known.find(item(target))
    assert found is not None
    return found


@pytest.mark.parametrize("head", ["def f", "async def f", "@staticmethod\ndef f"])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_arguments_are_those_that_inspect_tells(tmp_path: Path, signature: str, head: str) -> None:
    text = f"'''A module.'''\n\n{head}({signature}):\n    pass\n"
    found = find(source(tmp_path, work=text), "work:f")
    names: dict[str, Any] = {}
    exec(text, names)
    parameters = inspect.signature(names["f"]).parameters.values()
    told = {
        p.name: (p.default is not p.empty, p.kind is not p.POSITIONAL_ONLY)
        for p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    assert {a.name: (a.default, a.by_name) for a in found.arguments} == told
    assert [a.name for a in found.arguments] == list(told)
    assert found.open is any(p.kind is p.VAR_KEYWORD for p in parameters)
    assert found.where == f"work.py:{text[: text.index('def f')].count(chr(10)) + 1}"
    assert found.target == "work:f"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("if True:\n    def f(a): ...\nelse:\n    def f(b): ...\n", 4),
        ("try:\n    import x\nexcept ImportError:\n    def f(a): ...\n", 4),
        ("try:\n    pass\nfinally:\n    def f(a): ...\n", 4),
        ("with open('x') as y:\n    def f(a): ...\n", 2),
        ("def f(): ...\ndef f(a): ...\n", 2),
        ("def g():\n    def f(): ...\n\nclass A:\n    def f(self): ...\n\ndef f(a): ...\n", 7),
    ],
)
def test_the_last_definition_at_the_top_counts(tmp_path: Path, text: str, line: int) -> None:
    assert find(source(tmp_path, work=text), "work:f").where == f"work.py:{line}"


@pytest.mark.parametrize(
    "text",
    [
        "class f: ...\n",
        "f = make()\n",
        "f: object = make()\n",
        "from sklearn.base import clone as f\n",
        "from other import *\n",
        "def f(a): ...\nf = wrapped(f)\n",
    ],
)
def test_what_exists_and_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    assert source(tmp_path, work=text).find(item("work:f")) is None


def test_a_function_is_followed_through_the_modules_that_pass_it_on(tmp_path: Path) -> None:
    known = source(
        tmp_path,
        work="from pack import late as f\n",
        **{
            "pack.__init__": "from .inner import table as late\nfrom . import inner\n",
            "pack.inner": "from .deep.most import make as table\n",
            "pack.deep.__init__": "",
            "pack.deep.most": "from ..top import make\n",
            "pack.top": "def make(readings, limit=3): ...\n",
        },
    )
    found = find(known, "work:f")
    assert (found.target, found.where) == ("pack.top:make", "pack/top.py:1")


def test_modules_that_pass_a_function_round_in_a_circle_end(tmp_path: Path) -> None:
    known = source(tmp_path, a="from b import f\n", b="from a import f\n")
    assert known.find(item("a:f")) is None
    chain = {f"m{i}": f"from m{i + 1} import f\n" for i in range(HOPS + 1)} | {f"m{HOPS + 1}": "def f(): ...\n"}
    known = source(tmp_path, **chain)
    assert known.find(item("m1:f")) is not None
    assert known.find(item("m0:f")) is None


def test_src_comes_before_the_home_and_a_package_before_a_module(tmp_path: Path) -> None:
    source(
        tmp_path,
        **{"src.work": "def f(a): ...\n"},
        work="def f(b): ...\ndef g(): ...\n",
        other="def f(): ...\n",
        pack="def f(): ...\n",
    )
    known = source(tmp_path, **{"pack.__init__": "def f(x): ...\n"})
    assert find(known, "work:f").where == "src/work.py:1"
    assert find(known, "other:f").where == "other.py:1"
    assert find(known, "pack:f").where == "pack/__init__.py:1"


@pytest.mark.parametrize(
    ("target", "message", "where", "hint"),
    [
        ("wrok:f", "there is no module 'wrok' in the project", "noria.yaml:4:9", "Did you mean 'work'?"),
        ("pack.nothing:f", "there is no module 'pack.nothing' in the project", "noria.yaml:4:9", None),
        ("work:late_flihgts", "there is no function 'late_flihgts' in work.py", "noria.yaml:4:9", "Did you mean 'late_flights'?"),
        ("work:zzz", "there is no function 'zzz' in work.py", "noria.yaml:4:9", "Known here: late_flights, table."),
        ("empty:f", "there is no function 'f' in empty.py", "noria.yaml:4:9", "empty.py defines no function."),
        ("broken:f", "is not Python: '(' was never closed", "broken.py:2:6", None),
        ("nul:f", "", "nul.py", None),
        ("coded:f", "is not Python: ", "coded.py", None),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, target: str, message: str, where: str, hint: str | None) -> None:
    known = source(
        tmp_path,
        work="def late_flights(): ...\ndef table(): ...\ndef _private(): ...\n",
        empty="",
        broken="\ndef f(",
        nul="def f(): ...\0",
        coded="# coding: no-such-code\ndef f(): ...\n",
        **{"pack.__init__": ""},
    )
    with pytest.raises(ConfigError) as caught:
        known.find(item(target))
    assert caught.value.message.startswith(message)
    assert (caught.value.where or "").startswith(where)
    if hint is not None:
        assert caught.value.hint == hint


def test_a_source_has_a_size_and_a_depth(tmp_path: Path) -> None:
    known = source(tmp_path, large="#" * FILE_LIMIT + "\n", deep="x = " + "(" * 5000 + ")" * 5000 + "\n")
    with pytest.raises(ConfigError, match="is larger than 4 MB of source"):
        known.find(item("large:f"))
    with pytest.raises(ConfigError, match=r"is not Python|cannot be read as Python"):
        known.find(item("deep:f"))


def test_a_source_in_another_encoding_is_read_as_python_reads_it(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\ndef f(größe): ...\n".encode("latin-1"))
    (tmp_path / "bom.py").write_bytes(b"\xef\xbb\xbfdef f(a): ...\r\n")
    known = PythonSource(tmp_path)
    assert [a.name for a in find(known, "latin:f").arguments] == ["größe"]
    assert [a.name for a in find(known, "bom:f").arguments] == ["a"]


def test_what_is_in_hidden_and_built_folders_is_no_hint(tmp_path: Path) -> None:
    known = source(tmp_path, **{"venv.wrok": ""}, **{"build.wrok": ""}, **{"__pycache__.wrok": ""})
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "wrok.py").write_text("")
    with pytest.raises(ConfigError) as caught:
        known.find(item("wrok:f"))
    assert "wrok" not in (caught.value.hint or "")
