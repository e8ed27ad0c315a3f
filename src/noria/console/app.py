"""The console: one read-only page for people, and the control API for programs. Every path asks for the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noria.console import metrics, page
from noria.engine.action import Action, Value
from noria.engine.action_table import ACTIONS
from noria.engine.offered_actions import rollouts_document
from noria.kernel.error_table import row_of
from noria.kernel.errors import BadBodyError, ForbiddenError, NoriaError, TooLargeError, UsageError
from noria.kernel.event import Event
from noria.views.status import StatusView, document, event_facts, release_facts, turn_facts
from noria.views.totals import Totals

Act = Callable[[Action, Mapping[str, Value], str], dict[str, Any]]  # with what was said, and the actor
COOKIE = "noria_console"
BODY_LIMIT = 64 * 1024  # bytes of a request's body
POLICY = "default-src 'none'; style-src {style}; script-src 'self'; connect-src 'self'; img-src 'self'; {rest}"
REST = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": POLICY.format(style="'self'", rest=REST),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def build(
    view: Callable[[], StatusView],
    events: Callable[[int], list[Event]],
    act: Act,
    *,
    token: str,
    hosts: frozenset[str],
    totals: Callable[[], Totals] = Totals,
    everywhere: bool = False,
) -> Starlette:
    """The console as an ASGI application.

    ``view``, ``totals`` and ``events`` (those after a sequence number) are called in a thread. ``hosts`` are the allowed values
    of the Host header, with the port (``127.0.0.1:8080``) or without (any port). ``everywhere``: it listens on all addresses of
    this machine, so the Host may be an address as well; no page elsewhere can make a name of its own into one.
    """
    desk = ConsoleHandlers(view, events, act, totals)
    routes = [
        Route("/", desk.home),
        Route("/fragment", desk.fragment),
        Route("/metrics", desk.metrics),
        *(Route(f"/static/{name}", _static(name), name=name) for name in page.STATIC),
        Route("/api/status", desk.status),
        Route("/api/turns", desk.turns),
        Route("/api/releases", desk.releases),
        Route("/api/rollouts", desk.rollouts),
        Route("/api/events", desk.tail),
        *(Route(f"/api/{verb}", desk.acting(action), methods=["POST"]) for verb, action in ACTIONS.items()),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token, hosts=hosts, everywhere=everywhere)],
        exception_handlers={NoriaError: _refusal, HTTPException: _http, Exception: _defect},
    )


class Guard:
    """Host, Origin and token checks in front of everything, and the security headers on every answer.

    A browser gets a cookie that only reads: changes need the token itself, so that no page elsewhere can cause one.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str], everywhere: bool = False) -> None:
        self.app = app
        self.token = token.encode()
        self.session = hmac.new(self.token, b"noria console, read only", hashlib.sha256).hexdigest().encode()
        self.hosts = hosts
        self.actor = f"api:{hashlib.sha256(self.token).hexdigest()[:8]}"  # which token it was, without telling it
        self.everywhere = everywhere
        self.cookie = f"{COOKIE}_{self.session[:12].decode()}"  # cookies know no ports: other consoles of this host have theirs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here
        answer = self._judge(Request(scope)) or self.app
        await answer(scope, receive, _with_headers(send))

    def _judge(self, request: Request) -> Response | None:
        """Returns the refusal or redirect, or None when the request may pass."""
        if not self._host_known(request.headers.get("host", "")):
            return refusal(ForbiddenError("this Host is not served here", hint="Use the address that `noria status` shows."))
        origin = request.headers.get("origin")
        if origin is not None and not self._origin_known(origin.partition("://")[2], request.headers.get("host", "")):
            return refusal(ForbiddenError(f"requests from {origin[:200]!r} are not accepted"))
        if request.url.path == "/" and "token" in request.query_params:
            return self._sign_in(request.query_params["token"])
        if self._bearer(request.headers):
            request.scope["noria.actor"] = self.actor
            return None
        if request.method in ("GET", "HEAD") and self._cookie(request.headers):
            return None
        return _unauthorised_response(request)

    def _host_known(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        bare = (name if port.isdigit() else host).removeprefix("[").removesuffix("]")
        return host in self.hosts or bare in self.hosts or (self.everywhere and _is_address(bare))

    def _origin_known(self, origin: str, host: str) -> bool:
        """Whether the Origin is known. If any address may be the Host, only the one that was asked is: others may be foreign."""
        return origin == host if self.everywhere else self._host_known(origin)

    def _bearer(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token)

    def _cookie(self, headers: Headers) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.session)

    def _sign_in(self, given: str) -> Response:
        if not hmac.compare_digest(given.encode(), self.token):
            return _unauthorised_page()
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self.cookie, self.session.decode(), max_age=30 * 86400, httponly=True, samesite="strict", path="/")
        return answer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return sender


def _unauthorised_response(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return _unauthorised_page()
    return _error(
        401,
        "ForbiddenError",
        "the token is missing or wrong",
        "Send `Authorization: Bearer TOKEN`; the token is in the state folder's file `token`.",
        {"www-authenticate": "Bearer"},
    )


def _unauthorised_page() -> Response:
    policy = POLICY.format(style=f"'sha256-{page.LOCKED_STYLE_HASH}'", rest=REST)
    return HTMLResponse(page.locked_page(), 401, {"content-security-policy": policy, "www-authenticate": "Bearer"})


def _static(name: str) -> Callable[[Request], Response]:
    content, media_type = page.STATIC[name]

    def serve(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


class ConsoleHandlers:
    """The handlers, over what the daemon supplies."""

    def __init__(
        self,
        view: Callable[[], StatusView],
        events: Callable[[int], list[Event]],
        act: Act,
        totals: Callable[[], Totals] = Totals,
    ) -> None:
        self.view = view
        self.totals = totals
        self.events = events
        self.act = act

    async def home(self, _: Request) -> Response:
        return HTMLResponse(page.render(await run_in_threadpool(self.view)))

    async def fragment(self, _: Request) -> Response:
        return HTMLResponse(page.render_fragment(await run_in_threadpool(self.view)))

    async def metrics(self, _: Request) -> Response:
        text = await run_in_threadpool(lambda: metrics.render(self.view(), self.totals()))
        return Response(text, media_type="text/plain; version=0.0.4")

    async def status(self, _: Request) -> Response:
        return JSONResponse(document(await run_in_threadpool(self.view)))

    async def turns(self, _: Request) -> Response:
        return JSONResponse({"turns": [turn_facts(t) for t in (await run_in_threadpool(self.view)).turns]})

    async def releases(self, _: Request) -> Response:
        return JSONResponse({"releases": [release_facts(r) for r in (await run_in_threadpool(self.view)).releases]})

    async def rollouts(self, _: Request) -> Response:
        return JSONResponse(rollouts_document(await run_in_threadpool(self.view)))

    async def tail(self, request: Request) -> Response:
        after = _count(request.query_params.get("after", "0"))
        found = await run_in_threadpool(self.events, after)
        return JSONResponse({"events": [event_facts(e) for e in found], "next": max((e.seq for e in found), default=after)})

    def acting(self, action: Action) -> Callable[[Request], Awaitable[Response]]:
        """The handler that reads and does an action."""

        async def handle(request: Request) -> Response:
            given = await _object(request)
            try:
                values = action.read(given)
            except UsageError as error:
                raise BadBodyError(error.message, hint=error.hint) from error
            return JSONResponse(await run_in_threadpool(self.act, action, values, request.scope["noria.actor"]))

        return handle


async def _object(request: Request) -> dict[str, Any]:
    """The body, one JSON object; an empty one where there is none. Raises BadBodyError, TooLargeError."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise TooLargeError(f"the body is larger than {BODY_LIMIT:,} bytes")
    try:
        return msgspec.json.decode(content or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBodyError(f"the body is not what {request.url.path} takes: {error}") from error


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UsageError(f"`after` must be a whole number, not {text[:40]!r}")
    return int(text)


def _error(status: int, kind: str, message: str, hint: str | None = None, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message, "hint": hint}}, status, headers)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, NoriaError)
    return refusal(error)


def refusal(error: NoriaError) -> Response:
    """An error as its row in the table of errors says."""
    return _error(row_of(type(error)).status, type(error).__name__, error.message, error.hint)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _error(404, "UnknownTargetError", f"there is no {request.url.path[:200]}")
    if error.status_code == 405:
        return _error(
            405, "UsageError", f"{request.method} is not for {request.url.path[:200]}", headers=dict(error.headers or {})
        )
    return _error(error.status_code, "UsageError", error.detail)


async def _defect(_: Request, error: Exception) -> Response:
    return _error(500, type(error).__name__, "an internal error in Noria; the daemon's log has details")
