"""A release is made again: from its store, from a file on a "machine" that has neither store nor project, in an environment that
was built for it; and whatever differs, is missing or was tampered with is named."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from place import Place

from noria.delivery.standalone import from_file
from noria.kernel.errors import DataError, NoriaError, RefusedError
from noria.kernel.names import digest_bytes
from noria.releases import agreement, export_reader, signing
from noria.releases.evidence import Evaluation
from noria.stats.measures import Measure

PROJECT = """\
project: again
data: {points: "data/points-*.csv"}
steps:
  note: {cmd: "wc -l < $NORIA_INPUT_POINTS > made/note.txt; touch made/x.tmp", deps: [points], outs: [made/note.txt]}
  half: {call: "work:half", foreach: [a, b]}
  table: {call: "work:table"}
model:
  rows: table
  key: id
  task: binary
  inputs: [a, b]
  label: y
  features: "work:features"
  train: "work:train"
  holdout: {fraction: 0.3}
gates: [roc_auc >= 0.5]
environments: {production: {rollout: direct}}
"""
WORK = """\
import random
import numpy as np
import polars as pl

def half(points: pl.DataFrame, item): return points.select("id", item).with_columns(pl.col(item) / 2)
def table(points: pl.DataFrame, half: dict[str, pl.DataFrame], note):
    lines = int(open(note).read())
    assert lines == points.height + 1, lines
    noise = [random.random() + float(np.random.normal()) for _ in range(points.height)]
    made = points.select("id", "y")
    for side in half.values(): made = made.join(side, on="id", maintain_order="left")
    return made.with_columns(noise=pl.Series(noise))
def features(rows): return rows.select("a", "b")
def train(features, label):
    from sklearn.ensemble import RandomForestClassifier  # no other step needs it

    return RandomForestClassifier(5).fit(features, label.to_numpy())
"""
UNSEEDED = WORK.replace("float(np.random.normal())", "float(np.random.default_rng().normal())")
DRIFTING = UNSEEDED.replace("made.with_columns(", "made.with_columns(a=pl.col('a') + pl.Series(noise) / 3, ")
IGNORED = ".noria\nmade\ndata\n*.tmp\n__pycache__\n"


def points(count: int = 300) -> str:
    import random

    chance = random.Random(7)
    lines = []
    for number in range(count):
        a = chance.gauss(0, 1)
        lines.append(f"{number},{a:.3f},{chance.gauss(0, 1):.3f},{int(a + chance.gauss(0, 1) > 0)}\n")
    return "id,a,b,y\n" + "".join(lines)


def make(home: Path, work: str = WORK) -> Place:
    home.mkdir()
    (home / "README").symlink_to("work.py")
    place = Place(home).put("noria.yaml", PROJECT).put("work.py", work).put(".gitignore", IGNORED)
    place.put("data/points-1.csv", points()).commit()
    said = place.json("run")
    assert said["release"] == "v1", said
    return place


@dataclass(frozen=True, slots=True)
class Exported:
    place: Place
    file: Path
    facts: dict[str, Any]

    @property
    def state(self) -> Path:
        return self.place.home / ".noria"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A release and its export; not to be changed."""
    root = tmp_path_factory.mktemp("again")
    place = make(root / "home")
    facts = place.json("releases", "export", "v1", "--into", str(root / "v1.noria.tar"))
    return Exported(place, root / "v1.noria.tar", facts)


def alone(*arguments: str, cwd: Path, code: int | None = 0) -> dict[str, Any]:
    """Noria on a "machine" without project and store."""
    env = {**os.environ, "NORIA_HOME": str(cwd / "noria-home")}
    done = subprocess.run(
        [sys.executable, "-m", "noria", *arguments, "--json"],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_release_holds_the_files_of_its_commit_and_nothing_that_a_step_left(exported: Exported) -> None:
    """Number 1: steps, tests and training left files in the checkout, which travelled with the release."""
    (tree,) = (exported.state / "worktrees").iterdir()
    assert (tree / "made/x.tmp").exists()
    assert (tree / "made/note.txt").exists()
    (folder,) = (exported.state / "releases").iterdir()
    held = {p.relative_to(folder / "code").as_posix() for p in (folder / "code").rglob("*") if p.is_file()}
    assert held == {"noria.yaml", "work.py", ".gitignore", "README"}


def test_a_link_of_the_commit_travels_as_a_link(exported: Exported, tmp_path: Path) -> None:
    """Number 45: in the bundle, and out of an export, to be made again or served; it is never followed."""
    with tarfile.open(exported.file) as archive:
        assert "bundle/code/README" not in archive.getnames(), "an export holds regular files only"
    unpacked = export_reader.unpack(exported.file, tmp_path / "unpacked")
    assert os.readlink(unpacked.bundle.folder / "code/README") == "work.py"
    (tmp_path / "served").mkdir()
    laid = from_file(exported.file)(tmp_path / "served")
    assert os.readlink(tmp_path / "served/releases" / laid.release.digest / "code/README") == "work.py"


def test_an_export_has_equal_bytes_and_a_plain_tar_reads_it(exported: Exported, tmp_path: Path) -> None:
    again = exported.place.json("releases", "export", "v1", "--into", str(tmp_path / "again.tar"))
    assert (tmp_path / "again.tar").read_bytes() == exported.file.read_bytes()
    assert again["key"] == (exported.state / "signing.pub").read_text().strip()
    with tarfile.open(exported.file) as tar:
        names = tar.getnames()
        assert names[:2] == ["release.json", "release.sig"]
        assert {"bundle/manifest.json", "bundle/code/work.py", "bundle/evidence/environment.json"} <= set(names)
        for member in tar:
            assert member.isreg()
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
    said = exported.place.noria("releases", "export", "v1", "--into", str(tmp_path / "again.tar"), code=1)
    assert "exists already" in said
    assert [r["version"] for r in exported.place.json("releases")["releases"]] == ["v1"], "the list is as it was"


def test_a_file_is_reproduced_where_there_is_no_store(exported: Exported, tmp_path: Path) -> None:
    """The project with its store is moved away: nothing of it can be reached by its path."""
    shutil.copy(exported.file, tmp_path / "v1.noria.tar")
    moved = exported.place.home.rename(exported.place.home.with_name("moved"))
    try:
        found = alone("reproduce", "v1.noria.tar", "--into", "built", cwd=tmp_path)
    finally:
        moved.rename(exported.place.home)
    assert found["agrees"] is True
    assert found["bytes_agree"] is True, found
    assert found["environment"] == []
    assert found["key"] == exported.facts["key"]
    assert found["divergence"] is None
    names = [step["name"] for step in found["steps"]]
    assert names == ["note", "half@a", "half@b", "table", "train", "package", "score.candidate"]
    assert all(step["agrees"] for step in found["steps"])
    assert {m["difference"] for m in found["metrics"].values()} == {0.0}
    assert not (tmp_path / "noria-home").exists(), "everything is in the folder that was named"
    said = alone("reproduce", "v1.noria.tar", "--into", "built", cwd=tmp_path, code=1)
    assert "not empty" in said["error"]["message"]


def test_a_release_of_the_store_is_reproduced_without_its_repository(exported: Exported, tmp_path: Path) -> None:
    place = Place(Path(shutil.copytree(exported.place.home, tmp_path / "home", symlinks=True)))
    shutil.rmtree(place.home / ".git")
    found = place.json("reproduce", "v1", "--into", str(tmp_path / "built"))
    assert found["bytes_agree"] is True, found
    assert found["text"].startswith("v1 reproduced: the hosted model is the same, byte for byte, and every metric agrees")


def test_the_key_can_be_demanded(exported: Exported, tmp_path: Path) -> None:
    other = tmp_path / "other"
    signing.public_key(other)
    alone("releases", "verify", str(exported.file), "--key", str(exported.state / "signing.pub"), cwd=tmp_path)
    for command in (("releases", "verify"), ("reproduce",)):
        said = alone(*command, str(exported.file), "--key", str(other / "signing.pub"), cwd=tmp_path, code=1)
        assert "is signed with the key" in said["error"]["message"], said
    (tmp_path / "words.txt").write_text("no key")
    assert alone("reproduce", str(exported.file), "--key", "words.txt", cwd=tmp_path, code=2)["error"]["kind"] == "UsageError"
    said = alone("reproduce", str(exported.file), "--key", "nokey", cwd=tmp_path, code=2)["error"]
    assert said["message"] == "nokey cannot be read: No such file or directory"
    assert alone("reproduce", "nowhere.tar", cwd=tmp_path, code=2)["error"]["kind"] == "NotFoundError"


def test_without_data_it_says_what_is_missing(exported: Exported, tmp_path: Path) -> None:
    facts = exported.place.json("releases", "export", "v1", "--into", str(tmp_path / "small.tar"), "--without-data")
    assert facts["left_out"] == ["points"]
    assert facts["size_bytes"] < exported.facts["size_bytes"]
    assert alone("releases", "verify", "small.tar", cwd=tmp_path)["digest"] == facts["digest"]
    said = alone("reproduce", "small.tar", cwd=tmp_path, code=1)
    assert "without its data: points (1 file," in said["error"]["message"]


def test_data_that_was_erased_or_damaged_is_named_and_nothing_is_half_written(exported: Exported, tmp_path: Path) -> None:
    place = Place(Path(shutil.copytree(exported.place.home, tmp_path / "home", symlinks=True)))
    digest = digest_bytes((place.home / "data/points-1.csv").read_bytes())
    blob = place.home / ".noria" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"1", b"2", 1))
    for command in (["releases", "export", "v1", "--into", "../out/v1.tar"], ["reproduce", "v1", "--into", "../built"]):
        (tmp_path / "out").mkdir(exist_ok=True)
        said = place.json(*command, code=4)
        assert "points-1.csv of points is damaged" in said["error"]["message"], said
        assert list((tmp_path / "out").iterdir()) == []
    blob.unlink()
    for command in (["releases", "export", "v1", "--into", "../out/v1.tar"], ["reproduce", "v1", "--into", "../built2"]):
        said = place.json(*command, code=1)
        assert "not reproducible: data/points-1.csv of points was erased" in said["error"]["message"], said
        assert list((tmp_path / "out").iterdir()) == []
    place.json("releases", "export", "v1", "--into", "../out/v1.tar", "--without-data")


@pytest.mark.slow
def test_a_step_that_is_not_deterministic_is_named_with_the_reason(tmp_path: Path) -> None:
    """Noise that no metric sees: the release is reproduced, and the step is named all the same. Then noise that counts."""
    place = make(tmp_path / "home", UNSEEDED)
    found = place.json("reproduce", "v1", "--into", str(tmp_path / "a"))
    assert found["agrees"] is True
    diverged = found["divergence"]
    assert (diverged["step"], diverged["deterministic"], diverged["files"]) == ("table", False, ["output"]), diverged
    assert diverged["causes"] == ["work.py:9 makes a generator without a seed: np.random.default_rng()"]
    assert "table is the first step that differs: not deterministic: work.py:9" in found["text"]
    assert {step["name"]: step["agrees"] for step in found["steps"]}["half@a"] is True

    place.put("work.py", DRIFTING).commit()
    assert place.json("run")["release"] == "v2"
    found = place.json("reproduce", "v2", "--into", str(tmp_path / "b"), code=1)
    assert found["agrees"] is False
    assert found["bytes_agree"] is False
    assert "v2 not reproduced: " in found["text"]
    assert found["worst_difference"] == max(m["difference"] for m in found["metrics"].values()) > 1e-6
    text = place.noria("reproduce", "v2", "--into", str(tmp_path / "c"), "--tolerance", "10")
    assert "v2 reproduced: the model's bytes differ, every metric agrees within 10" in text
    assert re.search(r"^table +output$", text, re.MULTILINE)
    assert "may differ because" in text


def test_a_metric_that_is_missing_or_no_number_is_infinitely_far_from_one() -> None:
    nan = float("nan")
    then = {"same": 0.5, "gone": 0.5, "lost": 0.5, "never": nan, "apart": 0.5}
    now = {"same": 0.5, "new": 0.5, "lost": nan, "never": nan, "apart": 0.25}
    found = agreement.of_metrics(evaluation(then), evaluation(now))
    inf = float("inf")
    far = {"same": 0.0, "gone": inf, "new": inf, "lost": inf, "never": 0.0, "apart": 0.25}
    assert {name: metric.difference for name, metric in found.items()} == far


def evaluation(values: dict[str, float]) -> Evaluation:
    return Evaluation(9, 3, {name: Measure(value, 0, 1, 9) for name, value in values.items()})


# --- tampering: whoever changes the file cannot sign it; whoever can sign it still cannot reach out of the folder

Members = list[tuple[tarfile.TarInfo, bytes]]


def opened(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def written(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + bytes(-len(data) % 512 + 1024))
    return path


def plain(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def other_bytes(members: Members, name: str) -> None:
    at = next(i for i, (info, _) in enumerate(members) if info.name.startswith(name))
    info, content = members[at]
    members[at] = (info, bytes([content[0] ^ 1]) + content[1:])


def longer(members: Members, name: str) -> None:
    at = next(i for i, (info, _) in enumerate(members) if info.name.startswith(name))
    members[at] = (members[at][0], members[at][1] + b"x")


def without(members: Members, name: str) -> None:
    members[:] = [(info, content) for info, content in members if not info.name.startswith(name)]


def facts_said(members: Members, change: Callable[[dict[str, Any]], object]) -> None:
    facts = json.loads(members[0][1])
    change(facts)
    members[0] = (members[0][0], json.dumps(facts).encode())


UNSIGNED: dict[str, tuple[Callable[[Members], object], str]] = {
    "code": (lambda m: other_bytes(m, "bundle/code/work.py"), "work.py was changed"),
    "data": (lambda m: other_bytes(m, "blobs/"), "was changed"),
    "manifest of data": (lambda m: other_bytes(m, "snapshots/"), "changed|cannot be read"),
    "evidence": (lambda m: other_bytes(m, "bundle/evidence/evaluation.json"), "evaluation.json was changed"),
    "facts": (lambda m: facts_said(m, lambda f: f["release"].update(version="v9")), "its signature is not of its release.json"),
    "another key's name": (lambda m: facts_said(m, lambda f: f.update(key="0" * 64)), "its signature is not"),
    "no JSON": (lambda m: other_bytes(m, "release.json"), "is not the beginning of an export"),
    "signature": (lambda m: other_bytes(m, "release.sig"), "its signature is not"),
    "no signature": (lambda m: without(m, "release.sig"), "does not begin with release.json and release.sig"),
    "missing data": (lambda m: without(m, "blobs/"), "is missing"),
    "longer": (lambda m: longer(m, "bundle/code/work.py"), "bytes, not the"),
    "one more": (lambda m: m.append((plain("bundle/code/evil.py"), b"x = 1")), "which release.json does not name"),
    "twice": (lambda m: m.append(m[-1]), "twice"),
    "a link": (lambda m: m.append((plain("bundle/code/l", tarfile.SYMTYPE, "/etc/passwd"), b"")), "not a regular file"),
    "a hard link": (lambda m: m.append((plain("l", tarfile.LNKTYPE, "release.json"), b"")), "not a regular file"),
    "a device": (lambda m: m.append((plain("d", tarfile.CHRTYPE), b"")), "not a regular file"),
    "a folder": (lambda m: m.append((plain("bundle/folder", tarfile.DIRTYPE), b"")), "not a regular file"),
    "above": (lambda m: m.append((plain("bundle/../../evil.py"), b"x")), "leaves the folder"),
    "absolute": (lambda m: m.append((plain("/tmp/noria-evil.py"), b"x")), "leaves the folder"),
    "not ours": (lambda m: m.clear(), "ends too early|not an export"),
}


@pytest.mark.parametrize("kind", UNSIGNED)
def test_a_changed_file_is_refused_and_leaves_nothing(exported: Exported, tmp_path: Path, kind: str) -> None:
    change, said = UNSIGNED[kind]
    members = opened(exported.file)
    change(members)
    path = written(tmp_path / "changed.tar", members)
    for read in (lambda: export_reader.inspect(path), lambda: export_reader.unpack(path, tmp_path / "state")):
        with pytest.raises((DataError, RefusedError), match=said) as error:
            read()
        assert error.value.where == "changed.tar"
    assert [p.name for p in tmp_path.iterdir()] == ["changed.tar"]


def test_a_file_that_was_cut_short_or_goes_on_is_refused(exported: Exported, tmp_path: Path) -> None:
    whole = exported.file.read_bytes()
    for length in (0, 100, 512, 5000, len(whole) // 2, len(whole) - 1024, len(whole) - 1):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"too early|no export|no archive"):
            export_reader.unpack(tmp_path / "cut.tar", tmp_path / "state")
    (tmp_path / "long.tar").write_bytes(whole + b"x")
    with pytest.raises(DataError, match="goes on after its end"):
        export_reader.inspect(tmp_path / "long.tar")
    (tmp_path / "none.tar").write_bytes(os.urandom(4096))
    with pytest.raises(DataError, match="no archive of Noria"):
        export_reader.inspect(tmp_path / "none.tar")


def renamed(members: Members, old: str, new: str) -> None:
    for info, _ in members:
        if info.name == old:
            info.name = new

    def change(facts: dict[str, Any]) -> None:
        facts["pieces"][new] = facts["pieces"].pop(old)

    facts_said(members, change)


SIGNED: dict[str, tuple[Callable[[Members], object], str]] = {
    "above": (lambda m: renamed(m, "bundle/code/work.py", "bundle/../../evil.py"), "leaves the folder"),
    "absolute": (lambda m: renamed(m, "bundle/code/work.py", "/tmp/noria-evil.py"), "leaves the folder"),
    "elsewhere": (lambda m: renamed(m, "bundle/code/work.py", "signing.key"), "cannot be in an export"),
    "below a file": (lambda m: renamed(m, "bundle/code/work.py", "bundle/manifest.json/work.py"), "cannot be in an export"),
    "not in the bundle": (lambda m: renamed(m, "bundle/code/work.py", "bundle/code/other.py"), "other.py is not part of"),
    "a commit that is a path": (lambda m: facts_said(m, lambda f: f["release"].update(commit="../../up")), "does not describe"),
    "a project that is a path": (lambda m: facts_said(m, lambda f: f["release"].update(project="../x")), "does not describe"),
    "another release": (lambda m: facts_said(m, lambda f: f["release"].update(digest="0" * 64)), "does not describe"),
    "a later format": (lambda m: facts_said(m, lambda f: f.update(format=2)), "is of format 2"),
    "too large": (lambda m: facts_said(m, lambda f: f["pieces"]["bundle/code/work.py"].update(size_bytes=10**18)), "are free"),
}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_stranger_with_a_key_of_their_own_cannot_reach_out(exported: Exported, tmp_path: Path, kind: str) -> None:
    change, said = SIGNED[kind]
    members = opened(exported.file)
    stranger = exported.state if kind == "not in the bundle" else tmp_path / "stranger"
    key = signing.public_key(stranger)
    change(members)
    facts_said(members, lambda facts: facts.update(key=key))
    members[1] = (members[1][0], signing.sign(stranger, members[0][1]))
    path = written(tmp_path / "stranger.tar", members)
    with pytest.raises(NoriaError, match=said):
        export_reader.unpack(path, tmp_path / "state")
    assert {p.name for p in tmp_path.iterdir()} <= {"stranger", "stranger.tar"}
    assert not Path("/tmp/noria-evil.py").exists()


def test_a_stranger_cannot_pass_for_the_sealed_bundle(exported: Exported, tmp_path: Path) -> None:
    """All is signed anew, but for the bundle, whose seal is another's."""
    members = opened(exported.file)
    stranger = tmp_path / "stranger"
    facts_said(members, lambda facts: facts.update(key=signing.public_key(stranger)))
    members[1] = (members[1][0], signing.sign(stranger, members[0][1]))
    with pytest.raises(DataError, match="the signature of its manifest"):
        export_reader.unpack(written(tmp_path / "s.tar", members), tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_files_of_a_dataset_stay_below_their_folder() -> None:
    from noria.data.snapshot import FilePin, Snapshot

    for name in ("../../up.csv", "data/../../up.csv"):
        made = Snapshot("points", "0" * 64, (FilePin(name, "0" * 64, 1, 1),))
        with pytest.raises(DataError, match="leaves its folder"):
            export_reader._snapshot(msgspec.json.encode(made))


# --- another environment

SEARCHED = """\
project: searched
data: {points: "data/points-*.csv"}
model:
  rows: points
  key: id
  task: binary
  label: "y"
  train: "work:train"
  holdout: {fraction: 0.3}
  search: {metric: roc_auc, trials: 3, folds: 2, space: {c: [0.1, 10, log]}}
gates: [roc_auc >= 0.5]
environments: {production: {rollout: direct}}
"""
LIBRARY = """\
import noria_no_such_library
from sklearn.linear_model import LogisticRegression
def train(features, label, c=1.0): return LogisticRegression(C=c).fit(features, label.to_numpy())
"""


@pytest.mark.slow
def test_an_environment_that_differs_in_what_matters_is_said_and_a_package_that_cannot_be_had_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release whose code imports a library of this machine alone; and which searches."""
    for version in ("1.0", "1.1"):
        site = tmp_path / version
        (site / f"noria_no_such_library-{version}.dist-info").mkdir(parents=True)
        (site / "noria_no_such_library.py").write_text("")
    (tmp_path / "home").mkdir()
    place = Place(tmp_path / "home").put("noria.yaml", SEARCHED).put("work.py", LIBRARY).put(".gitignore", IGNORED)
    place.put("data/points-1.csv", points()).commit()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "1.0"))
    said = place.json("run")
    assert said["release"] == "v1", said
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "1.1"))
    found = place.json("reproduce", "v1", "--into", str(tmp_path / "a"))
    assert found["bytes_agree"] is True, found
    assert found["environment"] == ["noria-no-such-library 1.0 -> 1.1"]
    assert found["text"].endswith("`--environment rebuild` makes the recorded one")
    assert {"search", "train"} <= {step["name"] for step in found["steps"] if step["agrees"]}
    said = place.json("reproduce", "v1", "--into", str(tmp_path / "c"), "--environment", "rebuild", code=None)["error"]
    if "cannot be fetched" in said["message"]:
        pytest.skip("no package index can be reached")
    assert "not available: noria-no-such-library==1.0" in said["message"], said
    assert list((place.home / ".noria" / "interpreters").iterdir()) == []


@pytest.mark.slow
def test_the_recorded_environment_is_made_again(exported: Exported, tmp_path: Path) -> None:
    """The steps run in an interpreter of the recorded packages, made by uv; a second reproduction takes the one that is there."""
    root = exported.place.home / ".noria" / "interpreters"
    said = exported.place.start("reproduce", "v1", "--into", str(tmp_path / "a"), "--environment", "rebuild", "--json")
    out, err = said.communicate(timeout=900)
    if "cannot be fetched" in out:
        pytest.skip("no package index can be reached")
    assert said.returncode == 0, out + err
    found = json.loads(out)
    assert found["bytes_agree"] is True, found
    assert Path(found["interpreter"]).is_relative_to(root)
    assert found["environment"] == []
    (made,) = root.iterdir()
    before = (made / "left-out.json").stat().st_mtime_ns
    again = exported.place.json("reproduce", "v1", "--into", str(tmp_path / "b"), "--environment", "rebuild")
    assert again["interpreter"] == found["interpreter"]
    assert (made / "left-out.json").stat().st_mtime_ns == before
