"""`noria serve`: serves releases over HTTP without daemon, project or ledger, as in a container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import demand_text
from noria.cli.named_release import find_release
from noria.cli.output import emit, json_option, pairs
from noria.config import units
from noria.delivery import standalone
from noria.kernel import names
from noria.kernel.access import HOST, MAX_BODY_BYTES, MAX_ROWS, PORT, Access, RateLimit, is_loopback
from noria.kernel.errors import UsageError
from noria.kernel.workers import MOST, TWO, Workers
from noria.serving.supervisor import Options

if TYPE_CHECKING:
    from noria.delivery.standalone import UnpackedRelease


@click.command()
@click.argument("releases", metavar="RELEASE|FILE...", nargs=-1, required=True)
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 takes any free one.")
@click.option(
    "--workers",
    metavar="N|MIN:MAX",
    default=str(TWO),
    show_default=True,
    help="How many worker processes; a range scales with the load.",
)
@click.option(
    "--environment",
    "--env",
    "-e",
    default="production",
    show_default=True,
    help="The name of the environment in log and metrics.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("noria-serve"),
    show_default=True,
    help="The folder for the prediction log.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key (signing.pub) that FILEs must be signed with. Repeatable.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="A file of API keys, one name:key on each line; requests without a key are refused.",
)
@click.option("--host-name", "hosts", multiple=True, help="A host name to accept in the Host header. Repeatable.")
@click.option(
    "--rate", metavar="N/s", help="How often each API key (without keys: each address) may ask, as in 100/s or 6000/min."
)
@click.option(
    "--access-log", is_flag=True, help="Write one JSON line for each request to log/ENVIRONMENT/access.log in the folder."
)
@click.option(
    "--max-body", default=MAX_BODY_BYTES, show_default=True, type=click.IntRange(1), help="The largest request body, in bytes."
)
@click.option(
    "--max-rows", default=MAX_ROWS, show_default=True, type=click.IntRange(1), help="The largest number of rows in a request."
)
@json_option
def command(
    releases: tuple[str, ...],
    host: str,
    port: int,
    workers: str,
    environment: str,
    state: Path,
    keys: tuple[Path, ...],
    key_file: Path | None,
    hosts: tuple[str, ...],
    rate: str | None,
    access_log: bool,
    max_body: int,
    max_rows: int,
    as_json: bool,
) -> None:
    """Serve releases in the foreground until SIGTERM or Ctrl-C; requests in progress are still answered.

    A FILE that `noria releases export` wrote needs no project: its signature and its digests are verified first. A RELEASE comes
    from this project's store. Neither needs a daemon. An address that is not loopback requires --key-file.

    Releases of several projects share the address: POST /NAME/predict or /v2/models/NAME/infer asks the one of project NAME. Of
    two releases of one project, the first answers unless a request names the other: /v2/models/NAME/versions/v2/infer.

    \b
    Example:
      noria serve v3.noria.tar --key signing.pub
      noria serve v3.noria.tar --host 0.0.0.0 --key-file keys.txt --rate 100/s
      noria serve v3 --port 9000 --workers 1:4 --state /var/lib/noria-serve
      noria serve fraud.tar churn.tar --key fraud.pub --key churn.pub

    JSON, one document when it answers: address, environment, release, project, digest, form, key, state, log, workers,
    example {path, body}; with several releases, all of them under releases.
    """
    if not names.is_name(environment):
        raise UsageError(f"{environment!r} cannot name an environment", hint="Small letters, digits, - and _, as in production.")
    state = state.resolve()
    demand_text(state)
    access = _access(host, key_file, hosts, rate, access_log)
    options = Options(state, {environment: (host, port)}, _workers(workers), max_body, max_rows, access)
    lays = [find_release(release, keys, as_json) for release in releases]
    standalone.serve(options, lays, lambda laid, address: _answers(options, laid, address, as_json))
    if not as_json:
        click.echo("stopped")


def _workers(text: str) -> Workers:
    try:
        return Workers.of(text)
    except ValueError:
        text = f"--workers {text!r} is neither a number from 1 to {MOST} nor a range"
        raise UsageError(text, hint="A range, as in 1:4, scales with the load.") from None


def _access(host: str, key_file: Path | None, hosts: tuple[str, ...], rate: str | None, log: bool) -> Access:
    """Who may ask. Raises UsageError."""
    if key_file is None and not is_loopback(host):
        hint = "Name a list of keys with --key-file FILE, one name:key a line; or listen on 127.0.0.1."
        raise UsageError(f"{host} can be reached from other machines, and no keys are named", hint=hint)
    try:
        limit = RateLimit(*units.frequency(rate)) if rate is not None else None
    except ValueError as error:
        hint = str(error) or "As in 100/s, 6000/min or 50000/h."
        raise UsageError(f"--rate {rate!r} is no rate", hint=hint) from None
    try:
        names_of = tuple(units.host(name) for name in hosts)
    except ValueError:
        raise UsageError(
            f"--host-name {', '.join(hosts)} is no name of a host", hint="As in models.example.org, no port."
        ) from None
    return Access(str(key_file.absolute()) if key_file is not None else None, names_of, limit, log)


def _answers(options: Any, laid: list[UnpackedRelease], address: str, as_json: bool) -> None:
    (environment,) = options.environments
    log = options.state / "log" / environment
    projects = list(dict.fromkeys(one.release.project for one in laid))
    served = [_one(one, f"/{one.release.project}/predict" if len(projects) > 1 else "/predict") for one in laid]
    document = {
        "address": address,
        "environment": environment,
        **served[0],
        "state": str(options.state),
        "log": str(log),
        "workers": {"min": options.workers.least, "max": options.workers.most},
        "releases": served,
    }
    items, seen = [], set[str]()
    for release in (one.release for one in laid):
        how = (
            f"by its name: /v2/models/{release.project}/versions/{release.version}"
            if release.project in seen
            else f"as {environment}"
        )
        items.append(("serves", f"{release.version} of {release.project}, {release.form}, {how}"))
        seen.add(release.project)
    items += [
        ("address", address),
        *(("signed with", key) for key in dict.fromkeys(one.key for one in laid)),
        ("prediction log", log),
    ]
    keyed = options.access.keys_file is not None
    asked = {one["example"]["path"]: one["example"]["body"] for one in reversed(served)}
    requests = [curl(address, record, keyed=keyed, path=path) for path, record in reversed(asked.items())]
    emit(as_json, document, lambda: "\n\n".join((pairs(items), *requests, "Ctrl-C stops")))


def _one(laid: UnpackedRelease, path: str) -> dict[str, Any]:
    release = laid.release
    facts = {
        "release": release.version,
        "project": release.project,
        "digest": release.digest,
        "form": release.form,
        "key": laid.key,
    }
    return facts | {"example": {"path": path, "body": laid.example}}


def curl(address: str, record: dict[str, Any], *, keyed: bool = False, path: str = "/predict") -> str:
    """The command line that asks for one prediction, from this machine."""
    address = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    key = " -H 'authorization: Bearer KEY'" if keyed else ""
    body = json.dumps(record, ensure_ascii=False).replace("'", "'\\''")
    return f"curl {address}{path} -H 'content-type: application/json'{key} -d '{body}'"
