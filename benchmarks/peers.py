"""The peers' environments: pinned with hashes in requirements/, installed under .bench/, each apart from the others and Noria."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clock import timed

PINS = Path(__file__).parent / "requirements"
NAMES = ("dvc", "pytask", "mlflow", "mlserver", "litserve", "bentoml", "pandera", "great-expectations", "pointblank")
TITLES = {
    "dvc": "DVC",
    "pytask": "pytask",
    "mlflow": "MLflow",
    "make": "GNU make",
    "mlserver": "MLServer",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "pandera": "Pandera",
    "great-expectations": "Great Expectations",
    "pointblank": "pointblank",
}


@dataclass(frozen=True, slots=True)
class Peers:
    """``folder`` holds an environment for each peer. With ``folder`` None there are none, not even make."""

    folder: Path | None

    def command(self, name: str, program: str = "") -> Path | None:
        """The path of a peer's program, or None when it is not here."""
        if self.folder is None:
            return None
        if name == "make":
            found = shutil.which("make")
            return Path(found) if found else None
        path = self.folder / name / "bin" / (program or name)
        return path if path.exists() else None

    def install(self, names: tuple[str, ...] = NAMES) -> None:
        """Make the environments that are missing or whose pins have changed. One that fails is named, and is not measured."""
        for name in names if self.folder is not None else ():
            assert self.folder is not None
            pins = PINS / f"{name}.txt"
            digest = hashlib.sha256(pins.read_bytes()).hexdigest()
            stamp = self.folder / name / "pins"
            if stamp.exists() and stamp.read_text() == digest:
                continue
            print(f"  {TITLES[name]}: its environment is being made", flush=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            pip = [str(self.folder / name / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            try:
                subprocess.run([sys.executable, "-m", "venv", str(self.folder / name)], check=True)
                subprocess.run([*pip, "--require-hashes", "-r", str(pins)], check=True)
            except subprocess.CalledProcessError as error:
                print(f"  {TITLES[name]} could not be installed and is not measured: {error}", flush=True)
                shutil.rmtree(self.folder / name, ignore_errors=True)
                continue
            stamp.write_text(digest)

    def version(self, name: str) -> str:
        """As pinned, with its title: ``DVC 3.67.1``."""
        pinned = re.search(rf"^{name}==(\S+)", (PINS / f"{name}.txt").read_text(), re.MULTILINE)
        return f"{TITLES[name]} {pinned.group(1)}" if pinned else TITLES[name]


def dvc_init(home: Path, dvc: Path) -> Path:
    """A DVC project in a Git repository. Returns the folder of what DVC remembers of files beside its cache."""
    memory = home.parent / "dvc-memory"
    timed([dvc, "init", "-q"], home)
    timed([dvc, "config", "core.check_update", "false"], home)
    timed([dvc, "config", "core.site_cache_dir", memory.absolute()], home)
    return memory
