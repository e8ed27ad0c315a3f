"""The command line over what a real line left, in process: every document has the keys that its help promises, every error says
what, where and what next, and what people read is what programs get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from small_line import SmallLine, points, small_line

from noria.cli import execute, group
from noria.engine import actions
from noria.releases.store import ReleaseStore


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLine]:
    """v1 serves again; v2 was rolled back; the third file was refused."""
    folder = tmp_path_factory.mktemp("line")
    with small_line(folder, state=folder / "p" / ".noria") as made:
        made.deliver("points-01.csv", points(1))
        made.turned()
        made.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.2)")
        made.commit("smaller")
        made.deliver("points-02.csv", points(2))
        made.turned()
        made.deliver("points-03.csv", "id,a,y\n1,99,1\n")
        made.turned()
        actions.roll_back(made.context, "production", "cli:anna")
        yield made


@pytest.fixture
def say(line: SmallLine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(line.home)
    monkeypatch.delenv("NORIA_HOME", raising=False)

    def run(*arguments: str) -> Said:
        code = execute(list(arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(code, said.out, said.err)

    return run


def documented(command: str) -> set[str]:
    """The names at the top of `JSON keys:` in a command's help; what stands in brackets is of the inner ones."""
    found: click.Command = group
    for name in command.split():
        if not isinstance(found, click.Group) or name.startswith("-"):
            break
        inner = found.get_command(click.Context(found), name)
        if inner is None:
            break
        found = inner
    text = " ".join((found.help or "").partition("JSON keys:")[2].split()).split(". ")[0].rstrip(".")
    while re.search(r"[({\[]", text):
        text = re.sub(r"\s*(\([^(){}\[\]]*\)|\{[^(){}\[\]]*\}|\[[^(){}\[\]]*\])", "", text)
    names = re.split(r",| and ", text.partition(";")[0])
    return {name.split()[0] for name in names if name.strip()}


READS = [
    "status",
    "releases",
    "runs",
    "audit verify",
    "data log",
    "data quarantine list",
    "data verify",
    "gc",
    "predictions",
    "diff v1 v2",
    "report show v2",
]


@pytest.mark.parametrize("command", READS)
def test_a_document_has_the_keys_that_its_help_promises(say: Any, command: str) -> None:
    said = say(*command.split(), "--json")
    assert (said.code, said.err) == (0, "")
    promised = documented(command)
    assert promised
    assert promised - set(json.loads(said.out)) == set()


@pytest.mark.parametrize("command", [*READS, "show v1", "show 2", "show 3", "show latest", "audit log"])
def test_text_is_plain_and_names_what_programs_get(say: Any, command: str) -> None:
    said = say(*command.split())
    assert (said.code, said.err) == (0, "")
    assert said.out.strip()
    assert all(c.isprintable() or c == "\n" for c in said.out)
    assert not any(line.endswith(" ") for line in said.out.splitlines())


def test_a_report_is_written_as_its_file_says(say: Any, line: SmallLine, tmp_path: Path) -> None:
    plain = say("report", "v2")
    assert plain == say("report", "show", "v2")
    for name, start in (
        ("v2.md", "### ✅ v2 passed its gate"),
        ("v2.json", "{"),
        ("v2.txt", "✓ v2 passed its gate"),
        ("v2.html", "<!doctype html>"),
    ):
        said = say("report", "v2", "--into", str(tmp_path / name))
        assert (said.code, said.out) == (0, f"{tmp_path / name}: the report of v2\n")
        assert (tmp_path / name).read_text().startswith(start)
    assert json.loads(say("report", "v2", "--format", "json").out) == json.loads((tmp_path / "v2.json").read_text())
    refused = say("report", "v2", "--into", str(tmp_path / "v2.pdf"))
    assert (refused.code, refused.out) == (2, "")
    assert "does not tell a format" in refused.err
    assert "Add --format: terminal, json, markdown" in refused.err
    assert say("report", "v2", "--json", "--format", "markdown").code == 2
    assert say("report", "v2", "--open", "--json").code == 2
    assert (tmp_path / "v2.html").stat().st_size < 1_000_000
    assert say("report", "v2", "--into", str(tmp_path / "no" / "v2.md")).code == 4
    assert say("report", "--help").out.startswith("Usage: noria report [OPTIONS] COMMAND")


@pytest.mark.parametrize("there", [True, False])
def test_a_report_opens_in_the_browser(say: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool) -> None:
    opened: list[str] = []

    def browser(address: str) -> bool:
        opened.append(address)
        return there

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = say("report", "v1", "--open")
    (written,) = tmp_path.glob("noria-report-*/v1.html")
    assert (said.code, opened) == (0, [written.as_uri()])
    assert str(written) in said.out
    assert ("no browser could be opened" in said.err) is not there


def test_what_people_read_is_what_programs_get(say: Any, line: SmallLine) -> None:
    facts = json.loads(say("status", "--json").out)
    text = say("status").out
    assert [e["release"] for e in facts["environments"]] == ["v1"]
    assert re.search(r"^  production  v1$", text, re.M)
    for turn in facts["turns"]:
        assert re.search(rf"^  {turn['number']} .* {turn['outcome']} .* {turn['release'] or '–'} ", text, re.M)
    releases = json.loads(say("releases", "--json").out)["releases"]
    assert [(r["version"], r["serves"], bool(r["barred"])) for r in releases] == [("v2", [], True), ("v1", ["production"], False)]
    assert [r["digest"] for r in releases] == [ReleaseStore(line.ledger, "p").get(v).digest for v in ("v2", "v1")]
    difference = json.loads(say("diff", "v1", "v2", "--json").out)
    assert difference["same"] == ["environment"]
    assert [file["path"] for file in difference["code"]["files"]] == ["model.py"]
    same = json.loads(say("diff", "v1", "v1", "--json").out)
    assert set(same["same"]) >= {"code", "data", "steps", "environment"}


ERRORS = [
    ("show v9", 2, "there is no release v9", "Nearest: v2, v1."),
    ("show 9", 2, "there is no turn 9", "`noria runs` lists the turns."),
    ("report v9", 2, "there is no release v9", "Nearest: v2, v1."),
    ("report 3", 2, "turn 3 has evaluated no candidate: it ended before (quarantined: ", "`noria show 3` shows all"),
    ("diff v1 v9", 2, "there is no release v9", "Nearest: v2, v1."),
    ("diff v1 3", 2, "turn 3 has no run to compare: it ended before (quarantined)", "Name a release (v3), a turn (12), a run"),
    ("show v1 --log nope", 2, "has no step nope", "Steps: train, package, score.candidate."),
    ("data quarantine nope", 2, "there is no dataset 'nope'", "Known here: points."),
    ("data log nope", 2, "there is no dataset 'nope'", "Known here: points."),
    ("rollout hold", 2, "no rollout is under way in production", "`noria status` shows what serves where."),
    ("rollout resume", 2, "no rollout is under way in production", "`noria status` shows what serves where."),
    ("rollout abort", 2, "no rollout is under way in production", "`noria status` shows what serves where."),
    ("approve v9", 2, "there is no release v9", "Nearest: v2, v1."),
    ("approve v2", 1, "v2 is barred: production rolled back from v2 to v1", "`noria release lift v2` lifts it."),
    ("promote v1", 1, "v1 already serves production", "`noria status` shows what serves where."),
    (
        "rollback",
        1,
        "there is no release to return to from v1: v2 is barred: production rolled",
        "`noria release lift VERSION` lifts",
    ),
    ("rollback --to v1", 1, "v1 already serves", "`noria status` shows what serves where."),
    ("rollback --to v2", 1, "v2 is barred: production rolled back from v2", "`noria release lift v2` lifts the bar"),
    ("rollback --environment nope", 2, "there is no environment 'nope'", "noria.yaml has: production."),
    ("release lift v1", 1, "v1 is not barred", "`noria promote v1` lets it serve."),
    (
        "release withdraw v1 --why wrong",
        1,
        "v1 serves production",
        "`noria rollback --environment production` returns to an earlier",
    ),
    ("release withdraw v2 --why wrong", 1, "v2 is already barred: production rolled back", "`noria release lift v2`."),
    ("show v1 --log train", 2, "step train wrote no log in this run: it printed nothing", ""),
    ("runs --where x", 2, "a run has no field 'x'", "Write metrics.x or params.x."),
    ("feedback", 2, "give a prediction id and a label, or --key KEY and a label", "noria feedback ID LABEL"),
]


@pytest.mark.parametrize(("command", "code", "message", "hint"), ERRORS, ids=[error[0] for error in ERRORS])
def test_an_error_says_what_and_what_next_to_people_and_programs(
    say: Any, line: SmallLine, command: str, code: int, message: str, hint: str
) -> None:
    events, route = len(line.events()), line.route
    for as_json in (True, False):
        said = say(*command.split(), *(["--json"] if as_json else []))
        assert said.code == code
        if as_json:
            error = json.loads(said.out)["error"]
            assert (error["exit_code"], said.err) == (code, "")
            assert message in error["message"]
            assert hint in (error["hint"] or "")
        else:
            assert said.out == ""
            assert said.err.startswith("error: ")
            assert message in said.err
            assert hint in said.err
    assert (len(line.events()), line.route) == (events, route)  # what is refused changes nothing


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nothing", "No such command 'nothing'."),
        ("releases --limit 0", "Invalid value for '--limit': 0 is not in the range 1<=x<=10000."),
        ("runs --kind x", "Invalid value for '--kind': 'x' is not one of 'turn', 'experiment', 'trial'."),
        ("data diff", "Missing argument 'A'."),
        ("status --nothing", "No such option '--nothing'"),
        ("-C /no/such/folder status", "Directory '/no/such/folder' does not exist"),
    ],
)
def test_a_wrong_call_is_usage_to_people_and_programs(say: Any, command: str, message: str) -> None:
    said = say(*command.split())
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    said = say(*command.split(), "--json")
    assert said.code == 2
    error = json.loads(said.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("UsageError", 2)
    assert message in error["message"]


def test_a_person_s_way_back_and_forth_is_in_the_audit_log(tmp_path_factory: pytest.TempPathFactory, say: Any) -> None:
    """Its own project: promote lifts the bar, a rollback bars what leaves, and the log says who did it."""
    folder = tmp_path_factory.mktemp("forth")
    with small_line(folder, state=folder / "p" / ".noria") as made:
        for month in (1, 2):
            made.deliver(f"points-0{month}.csv", points(month))
            made.turned()
        for command, serves, barred in (
            ("rollback", "v1", {"v2"}),
            ("promote v2", "v2", set()),
            ("rollback --to v1", "v1", {"v2"}),
            ("release lift v2", "v1", set()),
            ("release withdraw v2 --why wrong_labels", "v1", {"v2"}),
        ):
            said = say("-C", str(made.home), *command.split(), "--json")
            assert said.code == 0, said
            assert made.champion == serves
            assert {r.version for r in ReleaseStore(made.ledger, "p").list() if r.barred} == barred
            assert made.ledger.events.newest("p", 1)[0].actor.startswith("cli:")
        assert json.loads(say("-C", str(made.home), "audit", "verify", "--json").out)["ok"] is True
