"""A submodule of the project is in the clean checkout; one that is not on this machine is named."""

YAML = """
project: subm
data: {rows: {source: "data/*.csv", settle: 50ms}}
steps: {count: {cmd: "python -m pkg.mod > out.txt", outs: [out.txt]}}
"""


def walk(case):
    home = case.home / "project"
    case.write("lib/helper.py", "def factor(): return 7\n")
    case.run("git", "init", "-q", "-b", "main", cwd=case.home / "lib")
    case.run("git", "add", "-A", cwd=case.home / "lib")
    case.run("git", "commit", "-q", "-m", "lib", cwd=case.home / "lib")
    case.write("project/pkg/__init__.py", "")
    case.write("project/pkg/mod.py", "from shared.helper import factor\n\nprint(factor())\n")
    case.write("project/noria.yaml", YAML)
    case.write("project/data/a.csv", "a\n1\n2\n")
    case.write("project/.gitignore", "/.noria/\n/data/\n/out.txt\n")
    case.run("git", "init", "-q", "-b", "main", cwd=home)
    case.run("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(case.home / "lib"), "shared", cwd=home)
    case.run("git", "add", "-A", cwd=home)
    case.run("git", "commit", "-q", "-m", "first", cwd=home)
    said = case.noria("run", cwd=home)
    assert "1 step ran" in said
    assert (home / "out.txt").read_text() == "7\n"

    case.run("git", "-c", "protocol.file.allow=always", "clone", "-q", str(home), str(case.home / "copy"))
    (case.home / "copy" / "data").mkdir()
    case.write("copy/data/a.csv", "a\n1\n")
    said = case.noria("run", code=1, cwd=case.home / "copy")
    assert "its submodule shared is not on this machine" in said
    assert "git submodule update --init" in said
