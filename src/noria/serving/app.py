"""The model server's paths, as a raw ASGI application."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from noria.kernel import background, logs, names
from noria.kernel.access import HOST, MAX_BODY_BYTES, MAX_ROWS, UNGUARDED
from noria.kernel.errors import NoriaError, ServingError
from noria.serving import invocations, metrics, openapi, partial_answers, protocol
from noria.serving.access_control import AccessControl, Peer
from noria.serving.access_log import AccessLog
from noria.serving.counts import SharedCounters
from noria.serving.fast_path import Outcome, fast_path
from noria.serving.gathering import Whole
from noria.serving.http import (
    GoneError,
    Headers,
    Receive,
    Reply,
    Scope,
    Send,
    Told,
    error_reply,
    guard,
    internal_reply,
    json_reply,
    method_reply,
    read_body,
)
from noria.serving.openapi import ApiPlace
from noria.serving.recorder import Recorder
from noria.serving.router import Router, RouterAnswer, RouteTable, WaitsError, describe, now
from noria.serving.runtime import INLINE_ROWS
from noria.serving.shadow import ShadowScorer
from noria.serving.v2 import OpenInference, in_form, is_json

_log = logs.get_logger("noria.serving")

Admit = Callable[[], None]  # counts the request; may raise TooOftenError
Short = Callable[[RouteTable, Headers, bytes, Admit | None], Reply | None]
Handler = Callable[[Receive, int | None, Scope], Awaitable[Reply]]


class Settings(msgspec.Struct, frozen=True):
    """A worker's settings, given at its start."""

    environment: str
    host: str = HOST
    max_body_bytes: int = MAX_BODY_BYTES
    max_rows: int = MAX_ROWS
    max_concurrent: int = 512  # requests in flight in one worker; more are refused with 503


class _Admission:
    """Counts a request against its caller's rate. Called late: requests off the fast path are counted elsewhere."""

    __slots__ = ("_access_control", "_caller", "asked")

    def __init__(self, door: AccessControl, caller: str) -> None:
        self._access_control = door
        self._caller = caller
        self.asked = False

    def __call__(self) -> None:
        """Raises TooOftenError."""
        self.asked = True
        self._access_control.count(self._caller)


class App:
    """The ASGI application of one project. ``table`` is replaced as a whole; a request keeps the one it began with."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        recorder: Recorder,
        counts: SharedCounters,
        door: AccessControl | None = None,
        access_log: AccessLog | None = None,
        shadow: ShadowScorer | None = None,
    ) -> None:
        self.draining = False
        self.usage: dict[str, Any] = {}  # the parent's newest measurements of the processes
        self._settings = settings
        self._router = router
        self._recorder = recorder
        self._counts = self._all = counts
        self._busy = 0
        self._access_control = door or AccessControl(UNGUARDED, settings.host)
        self._hosts = self._access_control.hosts
        self._access_log = access_log
        self._shadow = shadow
        if shadow is not None:
            router.unanswered, router.crowded = shadow.add_unanswered, shadow.is_full
        self._paths: dict[str, tuple[tuple[str, ...], Handler]] = self._routes()
        self._v2 = OpenInference(router, recorder, counts, shadow, settings.max_body_bytes, settings.max_rows)
        self.table = RouteTable()
        self.tables: Callable[[], list[RouteTable]] = lambda: [self._table]  # of all projects at this address
        self.waiting: Callable[[], list[Mapping[str, str]]] = list  # the projects that are not served yet, and why

    @property
    def table(self) -> RouteTable:
        return self._table

    @table.setter
    def table(self, table: RouteTable) -> None:
        self._table = table
        self._counts = self._v2.counts = self._all if table.route is None else self._all.of(table.route.project)
        self._fast_path = fast_path(table, self._recorder, self._counts)
        self._drawing = table.route if table.other is not None else None  # whether the other release is to score a request
        self._short: dict[bytes, Short] = {}  # path -> how a complete request is answered at once
        if table.immediate and table.route is not None:
            self._short = {
                b"/predict": self._predict_at_once,
                b"/v2/models/%s/infer" % table.route.project.encode(): self._infer_at_once,
            }

    def _routes(self) -> dict[str, tuple[tuple[str, ...], Handler]]:
        get = ("GET", "HEAD")
        live, ready = (get, self._live), (get, self._ready)
        return {
            "/predict": (("POST",), self._predict),
            "/feedback": (("POST",), self._feedback),
            "/invocations": (("POST",), self._invocations),
            "/ping": (get, self._ready),
            "/": (get, self._describe),
            "/metrics": (get, self._metrics),
            "/openapi.json": (get, self._openapi),
            "/health/live": live,
            "/health/ready": ready,
            "/v2/health/live": live,
            "/v2/health/ready": ready,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._busy += 1
        began = time.monotonic()
        try:
            reply = await self._reply(scope, receive)
        except GoneError:
            return
        except NoriaError as error:
            reply = error_reply(error)
        except Exception as error:  # noqa: BLE001 - the last line: a client gets an answer, the log gets the trace
            reply = _unexpected_error_reply(error)
        finally:
            self._busy -= 1
        if reply.status >= 400 and scope["path"].startswith("/v2"):
            reply = in_form(reply)
        self._counts.count_answer(reply.status)
        if self._access_log is not None:
            self._access_log.note(scope["method"], scope["path"], reply, began, scope.get("caller", ""))
        await reply.send(send)

    def try_fast(self, path: bytes, headers: Headers, body: bytes, peer: Peer = None) -> Reply | None:
        """Answers a complete POST at once; None when the answer must wait or the request is unusual."""
        short = self._short.get(path)
        if short is None or self.draining:
            return None
        began, caller = time.monotonic() if self._access_log is not None else 0.0, ""
        admit: _Admission | None = None
        try:
            guard(headers, self._hosts)
            if self._access_control.guarded:
                caller = self._access_control.authenticate(headers)
                admit = _Admission(self._access_control, caller or (peer[0] if peer else ""))
            outcome: Outcome = short(self._table, headers, body, admit)
        except WaitsError:
            return None
        except NoriaError as error:
            if admit is not None and not admit.asked:
                return None  # a bad request counts, too: the normal path counts it before it says what is wrong
            outcome = error
        except Exception as error:  # noqa: BLE001 - the last line: a client gets an answer, the log gets the trace
            outcome = _unexpected_error_reply(error)
        return self._told(outcome, path, began, caller)

    def try_all(self, wholes: Sequence[Whole]) -> Sequence[Reply | None]:
        """As `try_fast` for each of several requests whose heads were answered before; the fast path answers them together."""
        lane = self._fast_path
        if lane is None or self._drawing is not None or self.draining or self._access_control.guarded:
            return [self._try_alone(whole) for whole in wholes]
        try:
            read = [lane.read_infer(w.body) if w.head.path.endswith(b"/infer") else lane.read(w.body) for w in wholes]
        except Exception:  # noqa: BLE001 - a request's trouble is not that of the others: by itself it is told of it
            read = [None] * len(wholes)
        taken = [asked for asked in read if asked is not None]
        try:
            outcomes: Iterator[Outcome] = iter(lane.answer_all(taken))
        except Exception as error:  # noqa: BLE001 - the last line: clients get an answer, the log gets the trace
            outcomes = itertools.repeat(_unexpected_error_reply(error))
        return [
            self._try_alone(whole) if asked is None else self._told(next(outcomes), _inner_path(whole), whole.began)
            for asked, whole in zip(read, wholes, strict=True)
        ]

    def _try_alone(self, whole: Whole) -> Reply | None:
        return self.try_fast(_inner_path(whole), whole.head.headers, whole.body, whole.peer)

    def _told(self, outcome: Outcome, path: bytes, began: float, caller: str = "") -> Reply | None:
        """What becomes of a request is counted as it is told."""
        if outcome is None:
            return None
        reply = error_reply(outcome) if isinstance(outcome, NoriaError) else outcome
        if reply.status >= 400 and path != b"/predict":
            reply = in_form(reply)
        self._counts.count_answer(reply.status)
        if self._access_log is not None:
            self._access_log.note("POST", path.decode(), reply, began, caller)
        return reply

    def _predict_at_once(self, table: RouteTable, headers: Headers, body: bytes, admit: Admit | None) -> Reply | None:
        drawn = self._drawing is not None and self._router.is_drawn(self._drawing)
        if self._fast_path is not None and not drawn and (asked := self._fast_path.read(body)) is not None:
            if admit is not None:
                admit()
            if (reply := self._fast_path.answer(asked)) is not None:
                return reply
        ask = table.reader.read(body) if table.reader is not None else None
        if ask is None or len(ask.records) > INLINE_ROWS:
            return None
        if admit is not None:
            admit()
        return self._reply_recorded_rows(table, ask, now(self._router.answer(table, ask, drawn)))

    def _infer_at_once(self, table: RouteTable, headers: Headers, body: bytes, admit: Admit | None) -> Reply | None:
        drawn = self._drawing is not None and self._router.is_drawn(self._drawing)
        quick = self._fast_path if not drawn and is_json(headers) else None
        if quick is not None and (asked := quick.read_infer(body)) is not None:
            if admit is not None:
                admit()
            if (reply := quick.answer(asked)) is not None:
                return reply
        return self._v2.infer_at_once(headers, body, table, admit, drawn)

    def count_refusal(self, status: int) -> None:
        self._counts.count_answer(status)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        declared = guard(scope["headers"], self._hosts)
        if self._access_control.guarded:
            scope["caller"] = self._access_control.authorise(scope["headers"], scope["path"], scope["client"])
        if "refusal" in scope:
            raise scope["refusal"]
        found = self._paths.get(str(scope.get("inner", scope["path"])))
        if found is None:
            return await self._reply_v2(scope, receive, declared)
        methods, handler = found
        if scope["method"] not in methods:
            return method_reply(methods)
        if self._busy > self._settings.max_concurrent:
            raise ServingError("too many requests at once")
        return await handler(receive, declared, scope)

    async def _reply_v2(self, scope: Scope, receive: Receive, declared: int | None) -> Reply:
        """Answers the paths of the Open Inference Protocol, which are not fixed."""
        if self._busy > self._settings.max_concurrent:
            raise ServingError("too many requests at once")
        return await self._v2.reply(scope, receive, declared, self.table, not self.draining)

    async def _predict(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        body = await read_body(receive, declared, self._settings.max_body_bytes, scope["headers"])
        table = self.table
        if table.route is None or table.champion is None:
            raise _no_release()
        ask = table.reader.read(body) if table.reader is not None else None
        if ask is None:
            ask = protocol.read(protocol.parse(body), table.champion.signature, table.also, self._settings.max_rows)
        return self._reply_recorded_rows(table, ask, await self._router.answer(table, ask))

    async def _invocations(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        """`/predict` for clients of MLflow's scoring server."""
        body = await read_body(receive, declared, self._settings.max_body_bytes, scope["headers"])
        table = self.table
        if table.route is None or table.champion is None:
            raise _no_release()
        ask = invocations.read(protocol.parse(body), table.champion.signature, table.also, self._settings.max_rows)
        answered = await self._router.answer(table, ask)
        if not answered.lacking:
            rows, told = self._record(table, ask, answered)
            return json_reply({"predictions": [row["prediction"] for row in rows]}, told=told)
        rows, told = self._record(table, *partial_answers.answered_part(ask, answered))
        found = partial_answers.spread([row["prediction"] for row in rows], answered.lacking)
        errors = {str(row): text for row, text in partial_answers.words(answered).items()}
        return json_reply({"predictions": found, "errors": errors}, told=(*told[:3], len(errors)))

    def _reply_recorded_rows(self, table: RouteTable, ask: protocol.PredictionRequest, answered: RouterAnswer) -> Reply:
        """Returns the reply, once the log holds it."""
        if answered.lacking:
            return self._reply_partial(table, ask, answered)
        rows, told = self._record(table, ask, answered)
        return json_reply({"predictions": rows, "release": answered.version, "variant": answered.variant}, told=told)

    def _reply_partial(self, table: RouteTable, ask: protocol.PredictionRequest, answered: RouterAnswer) -> Reply:
        """Returns the reply when some rows have no answer."""
        rows, told = self._record(table, *partial_answers.answered_part(ask, answered))
        found = partial_answers.spread(rows, answered.lacking)
        for row, text in partial_answers.words(answered).items():
            found[row] = {"error": {"code": partial_answers.CODE, "message": text}}
        facts = {"predictions": found, "release": answered.version, "variant": answered.variant}
        return json_reply(facts, told=(*told[:3], len(answered.lacking)))

    def _record(
        self, table: RouteTable, ask: protocol.PredictionRequest, answered: RouterAnswer
    ) -> tuple[list[dict[str, Any]], Told]:
        """Records the answered rows; returns them with the facts for the access log."""
        assert table.route is not None
        outputs = protocol.outputs(answered.release.signature, answered.answers)
        ids = self._recorder.record_predictions(table.route, ask, answered, outputs)
        self._counts.count_prediction(answered.variant, len(ids), answered.seconds)
        if answered.other is not None and self._shadow is not None:
            self._shadow.add(table, ask, answered, ids[0], outputs)
        rows = [{"id": name, **row} for name, row in zip(ids, outputs, strict=True)]
        for row, inputs in self._rows_outside(answered, ask).items():
            rows[row]["outside"] = inputs
        return rows, (len(ids), answered.version, answered.variant)

    def _rows_outside(self, answered: RouterAnswer, ask: protocol.PredictionRequest) -> dict[int, list[str]]:
        """Returns the rows with values outside the training range of the release that answered."""
        found = protocol.outside(answered.release.signature, ask.columns)
        if found:
            self._counts.count_outside(len(found))
        return found

    async def _feedback(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        body = await read_body(receive, declared, self._settings.max_body_bytes, scope["headers"])
        table = self.table
        if table.route is None or table.champion is None:
            raise ServingError("there is no release yet, so there is nothing to label")
        said = protocol.read_feedback(protocol.parse(body), table.champion.signature, self._settings.max_rows)
        self._recorder.record_labels(table.route.project, said, table.champion.signature.key)
        self._counts.count_labels(len(said))
        return json_reply({"recorded": len(said)}, 202)

    async def _live(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        found = {"ready": await self._is_ready(), "ended": background.ended_threads(), "waiting": self.waiting()}
        facts = {name: value for name, value in found.items() if name == "ready" or value}
        return json_reply(facts, 200 if facts["ready"] else 503)

    async def _is_ready(self) -> bool:
        """Whether requests can be answered and background work, such as syncing the log, still runs."""
        champions = [table.champion for table in self.tables()]
        if self.draining or background.ended_threads() or any(one["state"] == "loading" for one in self.waiting()):
            return False  # a refused release does not affect the others
        return all([release is not None and await release.runtime.ready() for release in champions])

    async def _describe(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        tables, facts = self.tables(), {"environment": self._settings.environment}
        if len(tables) > 1:
            return json_reply(facts | {"projects": [describe(table) for table in tables]})
        return json_reply(facts | describe(self.table))

    async def _metrics(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        routes = [table.route for table in self.tables() if table.route is not None]
        text = metrics.render(self._all, self._settings.environment, routes, self.usage)
        return Reply(200, text.encode(), b"text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, receive: Receive, declared: int | None, scope: Scope) -> Reply:
        champion, route = self.table.champion, self.table.route
        here = ApiPlace(
            "" if route is None else route.project, scope["path"].removesuffix("/openapi.json"), *self._access_control.asks
        )
        return json_reply(
            openapi.document(champion.signature, champion.single, here) if champion else openapi.document(None, here=here)
        )


def _inner_path(whole: Whole) -> bytes:
    """Its path without the project's name, which `/NAME/predict` has."""
    return whole.head.path if whole.head.path.endswith(b"/infer") else b"/predict"


def _no_release() -> ServingError:
    return ServingError("no release yet", hint="`noria run` makes one; `noria status` says what is missing.")


def _unexpected_error_reply(error: Exception) -> Reply:
    number = names.new_id("error")
    _log.error(number, exc_info=error, extra=logs.facts(error_id=number))
    return internal_reply(number)
