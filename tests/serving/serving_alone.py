"""`noria serve` as a process of its own, and export files made of the small signed releases of these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from serving_bundles import PROJECT, Seal

from noria.kernel import names
from noria.releases import signing
from noria.releases.export_facts import FACTS, FORMAT, SEAL, ExportFacts
from noria.releases.release import Release, ServedForm
from noria.storage.listed_archive import ByteSource, ExportFile, ExportMeter, write

START_S = 20.0


def exported(seal: Seal, digest: str, target: Path, version: str = "v3", project: str = PROJECT) -> Path:
    """The release as `noria releases export --without-data` writes it."""
    (seal.state / signing.KEY).write_text(seal._key.private_bytes_raw().hex())
    bundle = seal.state / "releases" / digest
    found = {f"bundle/{p.relative_to(bundle)}": p for p in sorted(bundle.rglob("*")) if p.is_file()}
    pieces = {name: ExportFile(names.digest_file(path), path.stat().st_size) for name, path in found.items()}
    form = ServedForm(json.loads((bundle / "manifest.json").read_bytes())["form"])
    release = Release(version, digest, project, "run-1", None, form, 0.0, "a" * 40, {})
    facts = ExportFacts(FORMAT, "0.1.0", signing.public_key(seal.state), release, pieces, {})
    content = msgspec.json.encode(facts)
    sources = {name: ByteSource(pieces[name], path) for name, path in found.items()}
    ahead = {FACTS: content, SEAL: signing.sign(seal.state, content)}
    write(target, ahead, sources, ExportMeter("writing", facts.size_bytes, lambda _: None))
    return target


class Alone:
    """A running `noria serve`, asked for JSON."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        command = [sys.executable, "-m", "noria", "-C", str(folder), "serve", *map(str, arguments), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
        self.facts = self._document()

    @property
    def url(self) -> str:
        return str(self.facts["address"])

    def _document(self) -> dict[str, Any]:
        """What it printed when it answered; the document ends with a brace of its own line."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.rstrip() == "}":
                facts: dict[str, Any] = json.loads("".join(lines))
                return facts
        assert self.process.stderr is not None
        raise AssertionError(f"noria serve ended with {self.process.wait()}: {self.process.stderr.read()}")

    def stop(self, number: int) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(START_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def refused(folder: Path, *arguments: object) -> tuple[int, str]:
    """The exit code and the words of a `noria serve` that does not start."""
    command = [sys.executable, "-m", "noria", "-C", str(folder), "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False, cwd=folder)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr
