"""What a wheel brings: `noria demo` and type checkers need no checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from noria.cli import demo, execute

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(iter(WheelBuilder(str(ROOT)).build(directory=str(folder)))))


def tracked(folder: str) -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone: there is no list of files")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_package_and_the_example_and_nothing_else(wheel: Path) -> None:
    expected = {name.removeprefix("src/") for name in tracked("src/noria")}
    expected |= {f"noria/{name}" for name in tracked("examples/flights")}
    assert {"noria/py.typed", "noria/examples/flights/noria.yaml", "noria/examples/flights/prepare.py"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == expected
        for name in tracked("examples/flights"):
            assert archive.read(f"noria/{name}") == (ROOT / name).read_bytes()


def test_the_demo_finds_its_example_in_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = "import sys; sys.path.insert(0, sys.argv[1]); from noria.cli.demo import example_folder; print(example_folder())"
    command = [sys.executable, "-c", code, str(installed)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()) == installed / "noria" / "examples" / "flights"


def test_what_the_image_copies_is_enough_to_build_the_package(tmp_path: Path) -> None:
    """The image serves and needs no example; a build that needs one would fail there first."""
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        whole = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        whole(ROOT / name, tmp_path / name)
    built = Path(next(iter(WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "dist")))))
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "noria" / "serving" / "__main__.py").is_file()
    code = "import sys; sys.path.insert(0, sys.argv[1]); from noria.cli import main; sys.argv[1:] = ['demo']; main()"
    command = [sys.executable, "-c", code, str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path / "dist", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "the flights example is not part of this installation" in done.stderr) == (2, True)


def test_the_demo_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "NEEDED", {"json": "json", "nowhere_to_be_found": "nowhere-to-be-found==1"})
    assert execute(["demo", "--dir", str(tmp_path / "demo")]) == 2
    told = capsys.readouterr().err
    assert "the demo needs nowhere_to_be_found, which this Python does not have" in told
    assert "pip install nowhere-to-be-found==1" in told
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert execute(["demo", "--dir", str(tmp_path / "demo")]) == 2
    assert "needs git, which is not on PATH" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
