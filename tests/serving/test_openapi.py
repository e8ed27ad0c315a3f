"""The OpenAPI description is true: a client that knows nothing else asks whatever it allows, and whatever it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from serving_bundles import BINARY, compiled
from serving_world import World

from noria.kernel.task import Task
from noria.models.signature import Signature

SCHEMATHESIS = Path(__file__).resolve().parents[2] / ".clients" / "bin" / "st"
# a 503 is part of the description (no release yet; a model that overflows); a 500 is not, and fails another check
MAY_REFUSE = ("--exclude-checks", "not_a_server_error,positive_data_acceptance")
RUN = (
    "--exclude-checks",
    "not_a_server_error",
    "--max-examples",
    "25",
    "--seed",
    "20130401",
    "--phases",
    "coverage,fuzzing",
    "--no-color",
    "--warnings",
    "off",
)


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION, None], ids=str)
def test_what_it_says_is_so(world: World, tmp_path: Path, task: Task | None) -> None:
    """``None``: before the first release."""
    if not SCHEMATHESIS.exists():
        pytest.skip("schemathesis is not installed: `make clients`")
    if task is not None:
        signature = (
            BINARY if task is Task.BINARY else Signature(BINARY.inputs, task, key=BINARY.key, event_time=BINARY.event_time)
        )
        world.serve(compiled(world.seal, world.scratch, signature=signature))
    # No schema says whether tensors fit each other and the model: those of /infer may be refused though they are of the schema.
    for more in (["--exclude-path-regex", "/infer$"], ["--include-path-regex", "/infer$", *MAY_REFUSE]):
        command = [SCHEMATHESIS, "run", f"{world.url}/openapi.json", *RUN, *more]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
        assert ran.returncode == 0, ran.stdout
