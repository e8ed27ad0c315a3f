"""A file, and a module by a computed name, that a step reads are among what it depends on."""

STEP = """\
import importlib
import json
from pathlib import Path

CONF = json.loads(Path(__file__).parent.joinpath("conf/rules.json").read_text())


def late():
    return {"limit": CONF["limit"], "name": importlib.import_module("pkg." + "dyn").NAME, "more": more()}


def more():
    extra = Path("extra.json")
    return json.loads(extra.read_text()) if extra.exists() else None
"""


def walk(case):
    case.processes = True  # a step process sees which files it opens
    case.write("noria.yaml", 'project: p\nsteps: {late: "pkg.table:late", after: {call: "pkg.after:after"}}\n')
    case.write("pkg/__init__.py", "")
    case.write("pkg/dyn.py", "NAME = 'one'\n")
    case.write("pkg/table.py", STEP)
    case.write("pkg/after.py", "def after(late): return late\n")
    case.write("pkg/conf/rules.json", '{"limit": 1}')
    case.write(".gitignore", ".noria\n")
    case.commit()
    case.noria("run")
    assert case.noria_json("run")["outcome"] == "nothing changed"
    for name, text, why in (
        ("pkg/conf/rules.json", '{"limit": 2}', "file changed: pkg/conf/rules.json"),
        ("pkg/dyn.py", "NAME = 'two'\n", "file changed: pkg/dyn.py"),
    ):
        case.write(name, text)
        case.commit()
        told = {s["name"]: s for s in case.noria_json("run", "--explain")["steps"]}
        assert told["late"]["reason"] == why, told
        ran = {s["name"]: (s["state"], s["reason"]) for s in case.noria_json("run")["steps"]}
        assert ran == {"late": ("ran", why), "after": ("ran", "input changed: late")}, ran
    case.write("README.md", "nothing reads this\n")
    case.commit()
    assert {s["state"] for s in case.noria_json("run")["steps"]} == {"reused"}
    case.write("pkg/table.py", "def late(): return 1\n")  # another branch, where it opens nothing
    case.commit()
    assert case.noria_json("run")["steps"][0]["state"] == "ran"
    case.write("pkg/table.py", STEP)
    case.write("pkg/conf/rules.json", '{"limit": 1}')  # as it was: its result is remembered
    case.write("pkg/dyn.py", "NAME = 'one'\n")
    case.commit()
    assert {s["state"] for s in case.noria_json("run")["steps"]} == {"reused"}
