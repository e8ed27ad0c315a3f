"""What a step logs with ``noria.track``: from other processes, with wrong values, torn, and more than is kept."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import track


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "track.jsonl"
    monkeypatch.setenv("NORIA_TRACK", str(path))
    return path


def test_what_was_logged_comes_back_in_order(file: Path, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"png")
    for epoch in range(3):
        track.metrics({"loss": 1 / (epoch + 1), "auc": np.float32(0.5)}, step=epoch * 10)
    track.metric("free", 7)
    track.metric("free", np.int64(8))
    track.artifact(tmp_path / "plot.png")
    track.artifact(str(tmp_path / "plot.png"))
    track.note("first")
    track.note("second, in 日本語")
    track.tag("baseline", "wide")
    track.tag("baseline")
    found = track.read(file)
    assert found.series == {
        "loss": [(0.0, 1.0), (10.0, 0.5), (20.0, 1 / 3)],
        "auc": [(0.0, 0.5), (10.0, 0.5), (20.0, 0.5)],
        "free": [(0.0, 7.0), (1.0, 8.0)],
    }
    assert found.artifacts == [str(tmp_path / "plot.png")]
    assert (found.note, found.tags, found.said) == ("first\nsecond, in 日本語", ("baseline", "wide"), ())


def test_a_line_is_what_the_docs_say(file: Path) -> None:
    track.metric("loss", 0.25, step=3)
    line = json.loads(file.read_text())
    assert {k: line[k] for k in ("m", "v", "x")} == {"m": "loss", "v": 0.25, "x": 3.0}
    assert line["t"] > 1.7e9


def test_outside_a_step_nothing_happens_but_mistakes_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NORIA_TRACK", raising=False)
    monkeypatch.chdir(tmp_path)
    track.metric("loss", 0.1)
    track.tag("x")
    track.note("y")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="finite"):
        track.metric("loss", math.nan)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: track.metric("loss", "0.3"), TypeError, "must be a number, not str"),
        (lambda: track.metric("loss", True), TypeError, "not bool"),
        (lambda: track.metric("loss", None), TypeError, "not NoneType"),
        (lambda: track.metric("loss", np.array([1.0, 2.0])), TypeError, "must be one number"),
        (lambda: track.metric("loss", 1 + 2j), TypeError, "must be a number, not complex"),
        (lambda: track.metric("loss", math.inf), ValueError, "metric 'loss' is inf"),
        (lambda: track.metric("loss", np.float32("nan")), ValueError, "metric 'loss' is nan"),
        (lambda: track.metric("loss", 10**400), ValueError, "larger than a float"),
        (lambda: track.metric("loss", 1.0, step=math.nan), ValueError, "the step of metric 'loss'"),
        (lambda: track.metric("lo\nss", 1.0), ValueError, "one line"),
        (lambda: track.metric("", 1.0), ValueError, "one line"),
        (lambda: track.metric(3, 1.0), TypeError, "is text, not int"),
        (lambda: track.metric("x" * 201, 1.0), ValueError, "at most 200"),
        (lambda: track.metrics({"fine": 1.0, "not": "x"}), TypeError, "'not'"),
        (lambda: track.artifact("nowhere.png"), ValueError, "there is no file 'nowhere.png'"),
        (lambda: track.artifact("."), ValueError, "is a folder"),
        (lambda: track.note(3), TypeError, "a note is text"),
        (lambda: track.note("x" * 10_001), ValueError, "at most 10,000"),
        (lambda: track.tag("a", "b\n"), ValueError, "one line"),
    ],
)
def test_a_mistake_is_told_where_it_is_made_and_logs_nothing(file: Path, call, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
    assert not file.exists()


@given(
    points=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "Ωμέγα"]),
            st.floats(allow_nan=False, allow_infinity=False),
            st.one_of(st.none(), st.integers(-(10**6), 10**6)),
        ),
        max_size=40,
    )
)
def test_every_number_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, points) -> None:
    path = tmp_path_factory.mktemp("t") / "track.jsonl"
    expected: dict[str, list[tuple[float, float]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORIA_TRACK", str(path))
        for name, value, x in points:
            track.metric(name, value, step=x)
            own = expected.setdefault(name, [])
            own.append((float(len(own) if x is None else x), value))
    assert track.read(path).series == expected


def test_threads_and_processes_log_at_once(file: Path) -> None:
    code = "from noria import track\nfor i in range(500): track.metrics({'p': i, 'long' * 40: i})"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [track.metric("t", i) for i in range(500)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(60) for child in children] == [0, 0]
    found = track.read(file)
    assert found.said == ()
    assert {name: len(points) for name, points in found.series.items()} == {"p": 1000, "long" * 40: 1000, "t": 1500}


def test_a_forked_child_shares_the_file(file: Path) -> None:
    code = (
        "import os\nfrom noria import track\ntrack.metric('x', 1)\n"
        "pid = os.fork()\ntrack.metric('x', 2)\nif pid: os.waitpid(pid, 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert sorted(v for _, v in track.read(file).series["x"]) == [1.0, 2.0, 2.0]


def test_a_torn_end_is_left_out_and_other_languages_mistakes_are_told(file: Path) -> None:
    lines = [
        b'{"m": "loss", "v": 1, "x": null, "t": 1.0}',
        b"loss = 3",
        b"[1]",
        b'{"m": "loss", "v": "2"}',
        b'{"m": "loss", "v": 1e999}',
        b'{"q": 1}',
        b'{"m": "loss", "v": 2}',
        b'{"tags": "baseline"}',
        b'{"artifact": ""}',
        b'{"m": "' + b"x" * 70_000 + b'", "v": 1}',
        b"\xff\xfe",
        b'{"m": "loss", "v": 3',
    ]
    file.write_bytes(b"\n".join(lines))
    found = track.read(file)
    assert found.series == {"loss": [(0.0, 1.0), (1.0, 2.0)]}
    assert found.said == (
        "line 2 is not JSON",
        "line 3 is not a JSON object",
        "line 4 was left out: v must be a number, not str: '2'",
        "line 5 is not JSON",
        "line 6 was left out: it has none of the keys m, artifact, note and tags",
        "4 more lines could not be read",
    )
    assert track.read(file.with_name("none")) == track.Tracked({}, [])


def test_a_longer_torn_line_is_left_out_too(file: Path) -> None:
    file.write_bytes(b'{"m": "loss", "v": 1}\n' + b"x" * 200_000)
    found = track.read(file)
    assert (found.series, found.said) == ({"loss": [(0.0, 1.0)]}, ())


def test_too_many_points_are_thinned_evenly_and_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "POINT_LIMIT", 1000)
    with file.open("w") as out:
        for i in range(7000):
            out.write(json.dumps({"m": "loss", "v": i, "x": i}) + "\n")
            if i % 100 == 0:
                out.write(json.dumps({"m": "epoch", "v": i, "x": i}) + "\n")
    found = track.read(file)
    xs = [x for x, _ in found.series["loss"]]
    assert len(found.series["epoch"]) == 70
    assert 400 < len(xs) <= 1000
    assert (xs[0], xs[-1]) == (0.0, 6999.0)
    assert len({b - a for a, b in pairwise(xs[:-1])}) == 1
    assert found.said == (f"loss: of 7,000 points one in {int(xs[1])} was kept",)


def test_bounds_on_names_notes_and_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("METRIC_LIMIT", 3), ("LISTED", 2), ("NOTE_LIMIT", 10)):
        monkeypatch.setattr(track, name, limit)
    for i in range(5):
        track.metric(f"m{i}", i)
        track.tag(f"t{i}")
        track.note("abcdef")
    found = track.read(file)
    assert (sorted(found.series), found.tags, found.note) == (["m0", "m1", "m2"], ("t0", "t1"), "abcdef\nabc")
    assert [s.partition(":")[0] for s in found.said] == [
        "more than 2 tags",
        "more than 3 metrics",
        "the note has more than 10 characters",
    ]


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, noria.track; print(sorted({'numpy', 'msgspec', 'polars', 'blake3', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
