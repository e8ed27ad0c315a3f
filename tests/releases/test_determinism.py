"""Causes that the text of a step shows; and what is none of them."""

from __future__ import annotations

import pytest

from noria.releases import judge_determinism as d
from noria.releases.judge_determinism import causes, causes_in_command


def found(text: str) -> list[str]:
    return [cause.what for cause in causes({"work.py": text})]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import time\nx = time.time()", d.TIME),
        ("import datetime as dt\nx = dt.datetime.now()", d.TIME),
        ("from datetime import date\nx = date.today()", d.TIME),
        ("import numpy as np\nr = np.random.default_rng()", d.UNSEEDED),
        ("import numpy as np\nr = np.random.default_rng(None)", d.UNSEEDED),
        ("from numpy.random import default_rng\nr = default_rng(seed=None)", d.UNSEEDED),
        ("import random\nr = random.Random()", d.UNSEEDED),
        ("import os\nx = os.urandom(4)", d.SYSTEM),
        ("import secrets\nx = secrets.token_hex()", d.SYSTEM),
        ("from uuid import uuid4\nx = uuid4()", d.IDENTITY),
        ("import os\nx = os.listdir('.')", d.LISTING),
        ("from pathlib import Path\nx = list(Path('.').rglob('*'))", d.LISTING),
        ("import concurrent.futures\nfor f in concurrent.futures.as_completed(w): pass", d.THREADS),
        ("x = pool.imap_unordered(f, rows)", d.THREADS),
        ("x = table.group_by('a').agg()", d.ORDER),
        ("x = table.unique('a')", d.ORDER),
        ("x = {id(row): row for row in rows}", d.PROCESS),
    ],
)
def test_a_cause_is_named_with_its_line(text: str, what: str) -> None:
    (cause,) = causes({"work.py": text})
    assert cause.what == what
    assert cause.where == f"work.py:{len(text.splitlines())}"
    assert cause.code.split("(")[0].split(".")[-1] in text


@pytest.mark.parametrize(
    "text",
    [
        "import random\nx = random.random()",  # seeded
        "import numpy as np\nx = np.random.normal(); r = np.random.default_rng(7)",
        "import numpy as np\nr = np.random.default_rng(seed)",
        "import os\nx = sorted(os.listdir('.'))",
        "import os\nx = len(os.listdir('.'))",
        "from pathlib import Path\nx = sorted(p.name for p in Path('.').glob('*.csv'))",
        "x = table.group_by('a', maintain_order=True).agg()",
        "x = table.group_by('a').agg().sort('a')",
        "def uuid4(): return 4\nx = uuid4()",  # the project's own
        "x = set(['b', 'a'])",  # equal hashes in every run
        "this is no Python",
        "x = model.time()",
        "import numpy as np\nx = np.unique(a)",
    ],
)
def test_what_is_no_cause_is_not_named(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("date > out.txt", d.TIME),
        ("echo $RANDOM > out.txt", d.SYSTEM),
        ("head -c 4 /dev/urandom > out", d.SYSTEM),
        ("shuf in.txt > out.txt", d.UNSEEDED),
        ("uuidgen > out", d.IDENTITY),
        ("gzip -c in > out.gz", d.TIME),
        ("echo $$ > out", d.PROCESS),
    ],
)
def test_commands(line: str, what: str) -> None:
    assert [cause.what for cause in causes_in_command(line)] == [what]


@pytest.mark.parametrize("line", ["cp update.txt out", "python date_table.py --date=x", "gzip -cn in > out", "sort a > b"])
def test_commands_without_a_cause(line: str) -> None:
    assert causes_in_command(line) == []


def test_files_come_in_order_and_once_a_line() -> None:
    made = causes({"b.py": "import time\nx = time.time() - time.time()", "a.py": "import time\n\n\ny = time.time()"})
    assert [cause.where for cause in made] == ["a.py:4", "b.py:2"]
    assert made[0].text == "a.py:4 reads the clock: time.time()"
