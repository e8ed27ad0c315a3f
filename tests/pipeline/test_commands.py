"""Steps that are commands: what they read and leave, why they run, and what becomes of them when something is wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from place import Place

CHAIN = """\
project: words
steps:
  clean: {cmd: "tr a-z A-Z < raw.txt > made/clean.txt", deps: [raw.txt], outs: [made/clean.txt]}
  count: {cmd: "python tools/count.py made/clean.txt made/count.json", deps: [made/clean.txt], metrics: [made/count.json]}
  report: {cmd: "sh tools/report.sh", deps: [made/count.json], outs: [made/report.txt], params: [greeting]}
"""
COUNT = "import sys, json, helper\njson.dump({'words': helper.words(open(sys.argv[1]).read())}, open(sys.argv[2], 'w'))\n"
HELPER = "def words(text):\n    return len(text.split())\n"


@pytest.fixture
def words(place: Place) -> Place:
    place.put("noria.yaml", CHAIN).put("raw.txt", "a few words\n").put("params.yaml", "greeting: hello\nother: 1\n")
    place.put("tools/count.py", COUNT).put("tools/helper.py", HELPER)
    place.put("tools/report.sh", 'echo "$NORIA_PARAM_GREETING $(cat made/count.json)" > made/report.txt\n')
    return place.put(".gitignore", ".noria\nmade\n").commit()


def ran(states: dict[str, tuple[str, str]]) -> list[str]:
    return sorted(name for name, (state, _) in states.items() if state == "ran")


def test_a_chain_of_commands_leaves_its_files_and_its_metrics(words: Place) -> None:
    assert ran(words.states()) == ["clean", "count", "report"]
    assert words.read("made/clean.txt") == "A FEW WORDS\n"
    assert words.read("made/report.txt") == '"hello" {"words": 3}\n'
    run = words.json("runs", "--limit", "1")["turns"][0]["run_id"]
    assert words.json("show", run)["run"]["metrics"] == {"count.words": 3.0}
    again = words.json("run")
    assert again["outcome"] == "nothing changed"


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("tools/helper.py", "def words", "# a comment\ndef words", {}),
        ("tools/helper.py", "    return", '    """A docstring."""\n    return', {}),
        ("tools/helper.py", "text.split()", "list(text)", {"count": "code changed: tools/helper.py", "report": "input changed"}),
        ("tools/report.sh", "echo", "echo well", {"report": "code changed: tools/report.sh"}),
        ("raw.txt", "few", "very many", {"clean": "input changed: raw.txt", "count": "input", "report": "input"}),
        ("raw.txt", "few", "FEW", {"clean": "input changed: raw.txt"}),  # what it leaves is the same: nothing after it runs
        ("params.yaml", "hello", "hi", {"report": "parameter changed: greeting"}),
        ("params.yaml", "other: 1", "other: 2", {}),
        ("noria.yaml", "tr a-z", "tr  a-z", {"clean": "command changed"}),
    ],
)
def test_what_changed_decides_what_runs(words: Place, path: str, old: str, new: str, expected: dict[str, str]) -> None:
    words.noria("run")
    assert old in words.read(path)
    words.put(path, words.read(path).replace(old, new))
    told = {s["name"]: s for s in words.json("run", "--explain")["steps"]}
    states = words.states()
    assert ran(states) == sorted(expected)
    for name, why in expected.items():
        assert why in states[name][1]
    for name, (state, _) in states.items():  # what was foretold came true
        foretold = told[name]["runs"]
        assert foretold is None or foretold == (state == "ran")


def test_equal_work_is_shared_between_branches(words: Place) -> None:
    words.noria("run")
    words.put("raw.txt", "other text\n").commit().noria("run")
    words.put("raw.txt", "a few words\n").commit()
    states = words.states()
    assert ran(states) == []
    assert {reason for _, reason in states.values()} == {"the result of an equal run is used"}
    assert words.read("made/clean.txt") == "A FEW WORDS\n"


def test_a_lost_out_comes_back_without_running(words: Place) -> None:
    words.noria("run")
    (words.home / "made/report.txt").unlink()
    assert words.json("run")["outcome"] == "nothing changed"
    assert words.read("made/report.txt") == '"hello" {"words": 3}\n'


def test_an_out_that_was_edited_by_hand_is_what_the_step_left_again(words: Place) -> None:
    words.noria("run")
    words.put("made/clean.txt", "edited")
    words.noria("run")
    assert words.read("made/clean.txt") == "A FEW WORDS\n"
    assert [path.read_text() for path in (words.home / ".noria/replaced").rglob("clean.txt")] == ["edited"]


def test_a_change_that_is_taken_back_brings_the_outs_of_before(words: Place) -> None:
    words.noria("run")
    words.put("raw.txt", "other\n").noria("run")  # not committed: in the home itself
    assert words.read("made/clean.txt") == "OTHER\n"
    words.put("tools/report.sh", words.read("tools/report.sh") + "true\n").put("raw.txt", "a few words\n")
    assert ran(words.states()) == ["report"]
    assert words.read("made/clean.txt") == "A FEW WORDS\n"


def test_a_file_of_ones_own_where_an_out_belongs_is_moved_aside(words: Place) -> None:
    words.put("made/clean.txt", "precious").noria("run")
    assert words.read("made/clean.txt") == "A FEW WORDS\n"
    assert [path.read_text() for path in (words.home / ".noria/replaced").rglob("clean.txt")] == ["precious"]


def test_a_folder_is_an_out_and_a_dependency(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\nsteps:\n"
        '  split: {cmd: "mkdir -p parts/sub; cp in.txt parts/a.txt; cp in.txt parts/sub/ü.txt", deps: [in.txt], outs: [parts]}\n'
        '  join: {cmd: "cat parts/a.txt parts/sub/*.txt > all.txt", deps: [parts], outs: [all.txt]}\n'
        '  one: {cmd: "cp parts/a.txt one.txt", deps: [parts/a.txt], outs: [one.txt]}\n',
    ).put("in.txt", "x\n").put(".gitignore", ".noria\n").commit()
    assert ran(place.states()) == ["join", "one", "split"]
    assert place.read("all.txt") == "x\nx\n"
    assert place.json("run")["outcome"] == "nothing changed"


def test_foreach_and_matrix_make_a_step_for_each(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\nparams: params.yaml\nsteps:\n"
        '  each: {cmd: "echo {item} $NORIA_ITEM > each-{item}.txt", foreach: sizes, outs: ["each-{item}.txt"]}\n'
        '  both: {cmd: "echo {a}{b} > {a}-{b}.txt", matrix: {a: [x, y], b: sizes}, outs: ["{a}-{b}.txt"]}\n'
        '  sum: {call: "code:total", foreach: {one: {n: 1}, two: {n: 2}}}\n'
        '  all: {call: "code:all_of"}\n',
    ).put("params.yaml", "sizes: [1, 20]\n")
    place.put("code.py", "def total(key, item, sizes): return {key: item['n'] + sum(sizes)}\ndef all_of(sum): return sum\n")
    place.put(".gitignore", ".noria\n*.txt\n").commit()
    states = place.states()
    assert {name for name in states if "@" in name} == {
        "each@1",
        "each@20",
        "both@x-1",
        "both@x-20",
        "both@y-1",
        "both@y-20",
        "sum@one",
        "sum@two",
    }
    assert place.read("each-20.txt") == "20 20\n"
    assert place.read("y-1.txt") == "y1\n"
    place.put("params.yaml", "sizes: [1, 30]\n")
    assert ran(place.states()) == ["all", "both@x-30", "both@y-30", "each@30", "sum@one", "sum@two"]


def test_conditions_frozen_always_and_retries(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\nsteps:\n"
        '  deep: {cmd: "echo deep > deep.txt", outs: [deep.txt], when: "deep and size > 3"}\n'
        '  after: {cmd: "cp deep.txt after.txt", deps: [deep.txt], outs: [after.txt]}\n'
        '  tick: {cmd: "date +%s%N > tick.txt", outs: [tick.txt], always: true}\n'
        '  kept: {cmd: "cp word.txt kept.txt", deps: [word.txt], outs: [kept.txt], frozen: true}\n'
        '  shaky: {cmd: "test -e $NORIA_TEST_FLAG || { touch $NORIA_TEST_FLAG; exit 1; }", retries: 1,'
        f' env: {{NORIA_TEST_FLAG: "{place.home.parent}/flag"}}}}\n',
    ).put("params.yaml", "deep: false\nsize: 5\n").put("word.txt", "one").put(".gitignore", ".noria\n[adkt]*.txt\n").commit()
    first = place.states()
    assert first["deep"] == ("skipped", "`when: deep and size > 3` does not hold")
    assert first["after"][0] == "skipped"
    assert first["shaky"][0] == "ran"
    place.put("word.txt", "two")
    second = place.states("--set", "deep=true")
    assert (second["deep"][0], second["after"][0]) == ("ran", "ran")
    assert second["tick"] == ("ran", "runs every time")
    assert second["kept"] == ("reused", "frozen: keeps its result")
    assert place.read("kept.txt") == "one"


def test_parts_of_the_graph(words: Place) -> None:
    words.noria("run", "--only", "count", code=2)  # nothing before it has a result
    assert ran(words.states("--to", "clean")) == ["clean"]
    assert ran(words.states("--to", "count")) == ["count"]
    words.put("raw.txt", "now there are five words\n")
    assert ran(words.states("--from", "report")) == ["report"]  # on the old count
    assert '"words": 3' in words.read("made/report.txt")
    assert ran(words.states("--from", "clean")) == ["clean", "count", "report"]
    assert "there is no step 'cuont'" in words.noria("run", "--to", "cuont", code=2)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('{cmd: "echo why it failed; exit 3"}', "ended with exit code 3"),
        ('{cmd: "kill -9 $$"}', "was killed by signal 9"),
        ('{cmd: "sleep 60", timeout: 300ms}', "timed out after 0.3 s"),
        (
            "{cmd: \"python -c 'x = bytearray(400_000_000); import time; time.sleep(60)'\", memory: 150MB}",
            "more than 150 MB of memory",
        ),
        ('{cmd: "true", outs: [never.txt]}', "succeeded but did not write never.txt"),
        ('{cmd: "echo x > here.txt", deps: [gone.txt], outs: [here.txt]}', "its dependency gone.txt is not there"),
        ('{cmd: "cat secret.txt", deps: [secret.txt]}', "its dependency secret.txt is a link that leads out of the project"),
        (
            '{cmd: "echo x > made.txt; echo x > stray.txt; echo x >> word.txt", deps: [good.txt], outs: [made.txt]}',
            "wrote or removed stray.txt, word.txt, which are not",
        ),
        (
            '{cmd: "rm word.txt; echo x > made.txt", deps: [good.txt, word.txt], outs: [made.txt]}',
            "wrote or removed word.txt, which are not",
        ),
        ('{cmd: "ln -s /etc/hostname made.txt", outs: [made.txt]}', "wrote made.txt as a link that leads out of the project"),
        ('{cmd: "mkfifo made.txt", outs: [made.txt]}', "wrote made.txt, which is neither a file nor a folder"),
        (
            '{cmd: "python -c \'import os; os.mkdir(\\"made\\"); open(b\\"made/a\\\\xffb\\", \\"w\\")\'", outs: [made]}',
            "name is not UTF-8",
        ),
        ('{cmd: "echo x > kept.log"}', None),  # ignored by Git: nobody's business
    ],
)
def test_a_command_that_goes_wrong_is_told_in_words(place: Place, step: str, said: str | None) -> None:
    place.put("noria.yaml", f'project: p\nsteps:\n  good: {{cmd: "echo 1 > good.txt", outs: [good.txt]}}\n  bad: {step}\n')
    place.put("word.txt", "w\n").put(".gitignore", ".noria\n*.log\n")
    (place.home / "secret.txt").symlink_to("/etc/hostname")
    place.commit()
    out = place.noria("run", code=0 if said is None else 1)
    if said is not None:
        assert said in out
        assert "step bad" in out
    assert place.states("--to", "good")["good"][0] == "reused"  # a finished sibling is kept


def test_what_a_person_has_in_the_folder_only_is_pointed_out(place: Place) -> None:
    place.put("noria.yaml", 'project: p\nsteps:\n  s: {cmd: "cp data.txt o.txt", deps: [data.txt], outs: [o.txt]}\n')
    place.put(".gitignore", ".noria\ndata.txt\n").put("data.txt", "not committed").commit()
    assert "in your folder, but not in the commit" in place.noria("run", code=1)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("{a: {cmd: x, deps: [o.txt], outs: [p.txt]}, b: {cmd: x, deps: [p.txt], outs: [o.txt]}}", "the steps form a cycle"),
        ("{a: {cmd: x, outs: [o.txt]}, b: {cmd: x, outs: [o.txt]}}", "o.txt is also written by step a"),
        ("{a: {cmd: x, outs: [o]}, b: {cmd: x, outs: [o/p.txt]}}", "o/p.txt is also written by step a"),
        ("{a: {cmd: x, deps: [o.txt], outs: [o.txt]}}", "step a reads o.txt, which it writes itself"),
        ("{a: {cmd: x, outs: [../o.txt]}}", "lies outside the project"),
        ("{a: {cmd: x, outs: [.noria/o.txt]}}", "does not belong to the project"),
        ("{a: {cmd: x, deps: [nothing]}}", "there is no dataset, step or file 'nothing'"),
        ("{a: {cmd: x, params: [train.rl]}}", "there is no parameter 'train.rl'"),
        ("{a: {cmd: x, when: 'train.lr >'}}", "is not a condition"),
        ("{a: {cmd: x, when: 'lr > 1'}}", "there is no parameter 'lr'"),
        ("{a: {cmd: x, when: '__import__(1)'}}", "is not allowed in a condition"),
        ("{a: {cmd: x, foreach: []}}", "not empty"),
        ("{a: {cmd: x, foreach: [1, 1]}}", "two of its steps would have the name '1'"),
        ("{a: {cmd: x, matrix: {n: 3}}}", "n: expected a list"),
        ("{a: {cmd: x, foreach: [1], matrix: {n: [3]}}}", "either foreach or matrix"),
        ("{a: {cmd: x, frozen: true, always: true}}", "either frozen or runs always"),
        ("{a: {cmd: x, cpus: 0}}", "a number of cores"),
    ],
)
def test_mistakes_in_steps_are_named_where_they_stand(place: Place, steps: str, said: str) -> None:
    place.put("noria.yaml", f"project: p\nsteps: {steps}\n").put("params.yaml", "train: {lr: 1}\n")
    out = place.noria("run", code=2)
    assert said in out
    assert "noria.yaml:2:" in out


def test_two_runs_in_one_folder_take_turns_and_share_what_is_equal(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\nsteps:\n"
        f'  slow: {{cmd: "echo began >> {place.home.parent}/began; sleep 1; echo x > slow.txt", outs: [slow.txt]}}\n',
    ).put(".gitignore", ".noria\n*.txt\n").commit()
    both = [place.start("run", "--to", "slow"), place.start("run", "--to", "slow")]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert (place.home.parent / "began").read_text() == "began\n"  # once: the other one waited for it
    assert any("waiting for it" in err for _, err in said)


def test_readers_never_wait_for_a_run(place: Place, until: Callable[[Callable[[], bool]], None]) -> None:
    place.put("noria.yaml", f'project: p\nsteps:\n  s: {{cmd: "touch {place.home.parent}/began; sleep 30"}}\n').put(
        ".gitignore", ".noria\n"
    ).commit()
    running = place.start("run")
    try:
        until((place.home.parent / "began").exists)
        began = time.monotonic()
        place.noria("status")
        place.noria("runs")
        assert time.monotonic() - began < 20
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=120)


def test_ctrl_c_ends_what_runs_and_leaves_nothing_half_done(place: Place, until: Callable[[Callable[[], bool]], None]) -> None:
    place.put(
        "noria.yaml",
        "project: p\nsteps:\n"
        '  quick: {cmd: "echo q > q.txt", outs: [q.txt]}\n'
        f'  slow: {{cmd: "cp q.txt s.txt; echo $$ > {place.home.parent}/pid; sleep 60; echo done >> s.txt",'
        " deps: [q.txt], outs: [s.txt]}\n",
    ).put(".gitignore", ".noria\n*.txt\n").commit()
    running = place.start("run", "--to", "slow")
    pid = place.home.parent / "pid"
    until(lambda: pid.exists() and bool(pid.read_text().strip()))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert "Traceback" not in err
    until(lambda: not Path(f"/proc/{int(pid.read_text())}").exists())
    place.put("noria.yaml", place.read("noria.yaml").replace("sleep 60", "sleep 0"))
    states = place.states("--to", "slow")
    assert states["quick"][0] == "reused"
    assert states["slow"][0] == "ran"
    assert place.read("s.txt") == "q\ndone\n"


def test_a_damaged_result_is_found_and_made_again(words: Place) -> None:
    words.noria("run")
    blob = max(
        (p for p in (words.home / ".noria/blobs").rglob("*") if p.is_file()), key=lambda p: p.read_bytes() == b"A FEW WORDS\n"
    )
    os.chmod(blob, 0o644)
    blob.write_bytes(b"A FEW W0RDS\n")
    (words.home / "made/clean.txt").unlink()
    words.put("tools/helper.py", HELPER.replace("len", "2 * len"))
    out = words.noria("run", code=None)
    assert "Traceback" not in out
    words.noria("run", code=None)
    assert words.read("made/clean.txt") == "A FEW WORDS\n"


def test_cores_are_shared_out(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\nsteps:\n"
        '  one: {cmd: "python cores.py > one.txt", outs: [one.txt], cpus: 1}\n'
        '  any: {cmd: "python cores.py > any.txt", outs: [any.txt]}\n',
    ).put("cores.py", "import os\nprint(len(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS'))\n")
    place.put(".gitignore", ".noria\n*.txt\n").commit()
    place.noria("run")
    assert place.read("one.txt") == "1 1\n"
    assert place.read("any.txt").split()[0] == str(len(os.sched_getaffinity(0)))


def test_files_that_are_no_tables_come_as_a_folder(place: Place) -> None:
    place.put(
        "noria.yaml",
        "project: p\ndata: {pictures: {source: pictures/**, format: files, settle: 1ms}}\nsteps:\n"
        '  list: {cmd: "(cd $NORIA_INPUT_PICTURES; find . -type l | sort) > list.txt", deps: [pictures], outs: [list.txt]}\n'
        '  sizes: {call: "code:sizes"}\n',
    ).put(
        "code.py",
        "from pathlib import Path\ndef sizes(pictures): return sum(p.stat().st_size for p in Path(pictures).rglob('*.png'))\n",
    )
    place.put("pictures/a.png", "12345").put("pictures/deep/ß.png", "678").put(
        ".gitignore", ".noria\npictures\nlist.txt\n"
    ).commit()
    assert ran(place.states()) == ["list", "sizes"]
    assert place.read("list.txt") == "./pictures/a.png\n./pictures/deep/ß.png\n"
    place.put("pictures/b.png", "9")
    assert ran(place.states()) == ["list", "sizes"]
