"""The Open Inference Protocol v2 over REST: `/v2` and `/v2/models/...`.

A model's name is the project's; a version is a release, ``v3`` or ``3``. A request without a version goes the way of `/predict`:
champion, candidate by its share, champion behind it. One with a version goes to that release, when it is resident, and counts as
evidence for nobody. Both are in the prediction log before the answer leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from noria import __version__
from noria.kernel import background
from noria.kernel.error_table import V2_STATUS
from noria.kernel.errors import BadBodyError, ServingError, UnknownTargetError
from noria.serving import partial_answers, protocol, v2_messages
from noria.serving.counts import SharedCounters
from noria.serving.http import Headers, Receive, Reply, Scope, Told, json_reply, method_reply, read_body
from noria.serving.recorder import Recorder
from noria.serving.router import Router, RouterAnswer, RouteTable, now
from noria.serving.runtime import INLINE_ROWS, LoadedRelease
from noria.serving.shadow import ShadowScorer

BINARY = b"application/octet-stream"
EXTENSIONS = ["binary_tensor_data"]
HEAD_BYTES = b"inference-header-content-length"


class OpenInference:
    """Answers every path under `/v2` that is not in the application's own table."""

    def __init__(
        self,
        router: Router,
        recorder: Recorder,
        counts: SharedCounters,
        shadow: ShadowScorer | None,
        max_body_bytes: int,
        max_rows: int,
    ) -> None:
        self._router = router
        self._recorder = recorder
        self.counts = counts  # of the project, when there is one
        self._shadow = shadow
        self._max_body_bytes = max_body_bytes
        self._max_rows = max_rows

    async def reply(self, scope: Scope, receive: Receive, declared: int | None, table: RouteTable, ready: bool) -> Reply:
        """Raises NoriaError; `in_form` makes the protocol's answer of it."""
        model, version, verb = _target(scope["path"])
        methods = ("POST",) if verb == "infer" else ("GET", "HEAD")
        if scope["method"] not in methods:
            return method_reply(methods)
        if model is None:
            return json_reply({"name": "noria", "version": __version__, "extensions": EXTENSIONS})
        if verb == "infer":
            return await self._infer(scope["headers"], receive, declared, table, model, version)
        release = _resident(table, model, version)[1]
        if verb == "ready":
            ready = ready and not background.ended_threads() and await release.runtime.ready()
            return json_reply({"name": model, "ready": ready}, 200 if ready else 503)
        return json_reply(v2_messages.metadata(model, list(_versions(table)), release.signature, release.platform))

    async def _infer(
        self, headers: Headers, receive: Receive, declared: int | None, table: RouteTable, model: str, version: str | None
    ) -> Reply:
        body = await read_body(receive, declared, self._max_body_bytes, headers)
        name, release = _resident(table, model, version)
        _, head_bytes = _about(headers)
        also = table.also if version is None else frozenset()
        request = v2_messages.read(body, head_bytes, release.signature, also, self._max_rows)
        if version is None:
            answered = await self._router.answer(table, request.ask)
        else:
            answered = await self._router.answer_pinned(release, name, request.ask)
        return self._record(table, request, answered)

    def infer_at_once(
        self, headers: Headers, body: bytes, table: RouteTable, admit: Callable[[], None] | None, drawn: bool = False
    ) -> Reply | None:
        """Answers a complete infer request without a version, if the route answers at once; None: take the normal path."""
        encoding, head_bytes = _about(headers)
        if encoding or table.champion is None:
            return None
        request = v2_messages.read(body, head_bytes, table.champion.signature, table.also, self._max_rows)
        if len(request.ask.records) > INLINE_ROWS:
            return None
        if admit is not None:
            admit()
        return self._record(table, request, now(self._router.answer(table, request.ask, drawn)))

    def _record(self, table: RouteTable, request: v2_messages.InferRequest, answered: RouterAnswer) -> Reply:
        """The reply, once the log holds it."""
        assert table.route is not None
        ask, found, lacking = request.ask, answered, answered.lacking
        if lacking:
            ask, found = partial_answers.answered_part(ask, answered)
        signature = answered.release.signature
        rows: list[Any] = protocol.outputs(signature, found.answers)
        ids = self._recorder.record_predictions(table.route, ask, found, rows)
        self.counts.count_prediction(answered.variant, len(ids), answered.seconds)
        if answered.other is not None and self._shadow is not None:
            self._shadow.add(table, ask, answered, ids[0], rows)
        outside = protocol.outside(signature, ask.columns)
        if outside:
            self.counts.count_outside(len(outside))
        told: Told = (len(ids), answered.version, answered.variant)
        if lacking:
            told = partial_answers.access_log_facts(answered, len(ids))
            places = partial_answers.spread(range(len(ids)), lacking, -1)
            outside = {row: outside[place] for row, place in enumerate(places) if place in outside}
            rows, ids = partial_answers.spread(rows, lacking), partial_answers.spread(ids, lacking, "")
        content, head = v2_messages.write(request, table.route.project, answered, rows, ids, outside)
        if head is None:
            return Reply(200, content, told=told)
        return Reply(200, content, BINARY, ((HEAD_BYTES, b"%d" % head),), told)


def _target(path: str) -> tuple[str | None, str | None, str]:
    """Model, version and verb of a path: infer, ready, or nothing for metadata. Raises UnknownTargetError."""
    match path.strip("/").split("/"):
        case ["v2"]:
            return None, None, ""
        case ["v2", "models", model, "versions", version, *verb] if verb in ([], ["ready"], ["infer"]):
            return model, version, "".join(verb)
        case ["v2", "models", model, *verb] if verb in ([], ["ready"], ["infer"]):
            return model, None, "".join(verb)
    raise UnknownTargetError("no such path", hint="GET /openapi.json lists the paths.")


def _versions(table: RouteTable) -> dict[str, LoadedRelease]:
    """The resident releases by version, the champion first."""
    route = table.route
    if route is None or table.champion is None:
        raise ServingError("no release yet", hint="`noria run` makes one; `noria status` says what is missing.")
    found = {route.champion_version: table.champion}
    for version, release in ((route.candidate_version, table.candidate), (route.previous_version, table.previous)):
        if version is not None and release is not None:
            found.setdefault(version, release)
    return found


def _resident(table: RouteTable, model: str, version: str | None) -> tuple[str, LoadedRelease]:
    """The release that a path names, without a version the champion. Raises ServingError before the first, UnknownTargetError."""
    versions = _versions(table)
    assert table.route is not None
    if model != table.route.project:
        raise UnknownTargetError(f"there is no model {model[:80]!r} here; there is {table.route.project!r}")
    if version is None:
        return next(iter(versions.items()))
    name = f"v{version}" if version.isdigit() else version
    if name not in versions:
        raise UnknownTargetError(f"version {version[:80]!r} of {model!r} is not resident; {', '.join(versions)} can be asked")
    return name, versions[name]


def _about(headers: Headers) -> tuple[bytes, int | None]:
    """Content-Encoding in lower case, and the length of the JSON part. Raises BadBodyError."""
    encoding, head_bytes = b"", None
    for name, value in headers:
        if name == b"content-encoding":
            encoding = value.strip().lower()
        elif name == HEAD_BYTES:
            if not value.isdigit() or len(value) > 12:
                raise BadBodyError("Inference-Header-Content-Length must be a whole number of bytes")
            head_bytes = int(value)
    return encoding, head_bytes


def is_json(headers: Headers) -> bool:
    """Whether the body is JSON from its first byte to its last."""
    return all(name not in (b"content-encoding", HEAD_BYTES) for name, _ in headers)


def in_form(reply: Reply) -> Reply:
    """A refusal in the protocol's form, ``{"error": "..."}``; a body with the wrong columns is 400 there."""
    error = msgspec.json.decode(reply.body).get("error")
    if error is None:
        return reply
    text = error if isinstance(error, str) else ": ".join(error[part] for part in ("message", "hint") if part in error)
    return Reply(V2_STATUS.get(reply.status, reply.status), msgspec.json.encode({"error": text}), headers=reply.headers)
