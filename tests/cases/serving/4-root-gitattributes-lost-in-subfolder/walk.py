"""A project in a folder of a repository: the top folder's attributes hold in the step as in the user's folder."""

YAML = """
project: gitp
data: {rows: {source: "data/*.csv", settle: 50ms}}
steps: {shell: {cmd: "cat pkg/w.dat > out.txt", deps: [pkg/w.dat], outs: [out.txt]}}
"""


def walk(case):
    home = case.home / "proj"
    case.run("git", "init", "-q", "-b", "main")
    case.run("git", "config", "filter.up.clean", "tr A-Z a-z")
    case.run("git", "config", "filter.up.smudge", "tr a-z A-Z")
    case.write(".gitattributes", "*.dat filter=up\n")
    case.write("proj/pkg/w.dat", "weights\n")
    case.write("proj/data/a.csv", "a\n1\n")
    case.write("proj/noria.yaml", YAML)
    case.write("proj/.gitignore", "/.noria/\n/data/\n/out.txt\n")
    case.commit("first")
    (home / "pkg" / "w.dat").unlink()
    case.run("git", "checkout", "pkg/w.dat", cwd=home)
    assert (home / "pkg" / "w.dat").read_text() == "WEIGHTS\n"
    case.noria("run", cwd=home)
    assert (home / "out.txt").read_text() == "WEIGHTS\n"
