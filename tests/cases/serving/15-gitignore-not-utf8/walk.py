"""A .gitignore that is not UTF-8 stays as it is, with our lines below it; one that Git cannot read is refused in words."""

LATIN = b"# f\374r M\344rz\n*.log"


def walk(case):
    case.write("t.csv", "a,b,y\n" + "".join(f"{n},{n % 7},{'yes' if n % 3 else 'no'}\n" for n in range(60)))
    ignore = case.home / ".gitignore"
    ignore.write_bytes(b"\xff\xfe" + "*.log\r\n".encode("utf-16-le"))
    said = case.noria("init", "--data", "t.csv", "--label", "y", code=1)
    assert "UTF-16" in said
    assert "UTF-8" in said
    assert not (case.home / "noria.yaml").exists()

    ignore.write_bytes(LATIN)
    case.noria("init", "--data", "t.csv", "--label", "y")
    assert ignore.read_bytes().startswith(LATIN + b"\n/.noria/\n")
    case.write("x.log", "1\n")
    assert "x.log" not in case.run("git", "status", "--porcelain")
