"""Several projects behind one address: each has its application, and the path selects the project.

`/v2/models/NAME/...` and `/NAME/predict`, `/NAME/feedback`, `/NAME/openapi.json` always work. Where one project is served, as
mostly, `/predict` and the others are its own; where several are, they are told apart by name only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from noria.kernel import descriptors
from noria.kernel.errors import NoriaError, ServingError, UnknownTargetError
from noria.serving.access_control import Peer
from noria.serving.app import App
from noria.serving.arrivals import Arrivals
from noria.serving.gathering import Gathering, Whole
from noria.serving.http import Headers, Receive, Reply, Scope, Send
from noria.serving.router import RouteTable

OWN = ("predict", "feedback", "invocations", "openapi.json", "")  # paths behind a project's name
FIXED = frozenset(
    {"predict", "feedback", "invocations", "ping", "openapi.json", "health", "metrics", "v2", ""}
)  # a project called so has no others


class Apps:
    """The ASGI application. ``serve`` replaces all tables; a request keeps the one it began with."""

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._apps: dict[str, App] = {"": make()}  # by project; "" before there is one
        self._short: dict[bytes, tuple[App, bytes]] = {}
        self._draining = False
        self.room = descriptors.for_connections()  # the most connections
        self.arrivals = Arrivals()
        self.gathering = Gathering(self._answer_all)
        self._waiting: dict[str, Mapping[str, str]] = {}  # by project: those whose release does not answer yet
        self._link_apps()

    def serve(self, tables: Iterable[RouteTable]) -> None:
        """One table for each project; none at all: nothing is served."""
        self.gathering.forget()
        named = {table.route.project: table for table in tables if table.route is not None} or {"": RouteTable()}
        free = [app for name, app in self._apps.items() if name not in named]
        apps = {name: self._apps.get(name) or (free.pop() if free else self._make()) for name in sorted(named)}
        for name, app in apps.items():
            app.table = named[name]
            app.draining = self._draining
        self._apps = apps
        self._link_apps()

    def try_out(self, table: RouteTable) -> None:
        """Make what serving by a table takes, and let go of it."""
        self._make().table = table

    def count_refusal(self, status: int) -> None:
        """Count an answer to what was no request."""
        self._first.count_refusal(status)

    def set_waiting(self, waiting: Iterable[Mapping[str, str]]) -> None:
        """The projects that are wanted here and not served yet: which release (``release``), and ``why``."""
        self._waiting = {one["project"]: one for one in waiting}

    def waiting(self) -> list[Mapping[str, str]]:
        return [one for project, one in self._waiting.items() if project not in self._apps]

    def tables(self) -> list[RouteTable]:
        return [app.table for app in self._apps.values()]

    def drain(self) -> None:
        """Reports at `/health/ready` that this process is about to end."""
        self._draining = True
        for app in self._apps.values():
            app.draining = True

    def set_usage(self, usage: Mapping[str, Any]) -> None:
        """What the parent measured of the processes."""
        for app in self._apps.values():
            app.usage = dict(usage)

    def try_fast(self, path: bytes, headers: Headers, body: bytes, peer: Peer = None) -> Reply | None:
        """The answer to a whole POST, at once; None when it has to wait, or is unusual."""
        found = self._short.get(path)
        return found[0].try_fast(found[1], headers, body, peer) if found is not None else None

    def _answer_all(self, wholes: Sequence[Whole]) -> Sequence[Reply | None]:
        """As `try_fast` for each of them; heads of paths that are no more are forgotten."""
        if len(self._apps) == 1:
            return self._first.try_all(wholes)
        by_app: dict[App, list[int]] = {}
        for place, whole in enumerate(wholes):
            by_app.setdefault(self._short[whole.head.path][0], []).append(place)
        found: list[Reply | None] = [None] * len(wholes)
        for app, places in by_app.items():
            for place, reply in zip(places, app.try_all([wholes[place] for place in places]), strict=True):
                found[place] = reply
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            app, path = self._find_app(scope["path"])
        except NoriaError as error:
            app, path = self._first, scope["path"]
            scope["refusal"] = error  # only after the access check: names are not shown without a key
        scope["inner"] = path
        await app(scope, receive, send)

    @property
    def _first(self) -> App:
        return next(iter(self._apps.values()))

    def _link_apps(self) -> None:
        """Tell the applications of each other, and note where whole requests may be answered at once."""
        alone = len(self._apps) == 1
        self._short = {}
        for name, app in self._apps.items():
            app.tables, app.waiting = self.tables, self.waiting
            self._short[b"/v2/models/%s/infer" % name.encode()] = (app, b"/v2/models/%s/infer" % name.encode())
            if name not in FIXED:
                self._short[b"/%s/predict" % name.encode()] = (app, b"/predict")
            if alone:
                self._short[b"/predict"] = (app, b"/predict")

    def _demand_served(self, path: str, first: str) -> None:
        """Raises ServingError for the path of a project whose release is still being loaded, or was refused."""
        if not self._waiting:
            return
        by_model = path.startswith("/v2/models/")
        name = path.split("/")[3] if by_model else first
        anybody = "" in self._apps and name in ("predict", "feedback")
        mine = [one for one in self.waiting() if anybody or (one["project"] == name and (by_model or name not in FIXED))]
        if mine:
            told = "; ".join(f"{one['project']} {one['release']}: {one['why']}" for one in mine)
            raise ServingError(f"no release answers yet: {told}")

    def _find_app(self, path: str) -> tuple[App, str]:
        """The application that a path is for, and its path there. Raises UnknownTargetError."""
        _, first, *rest = (*path.split("/"), "")
        self._demand_served(path, first)
        if first in self._apps and first not in FIXED and (inner := "/".join(rest).removesuffix("/")) in OWN:
            return self._apps[first], f"/{inner}"
        if len(self._apps) == 1:
            return self._first, path
        if first in ("predict", "feedback", "invocations", "openapi.json") and not any(rest):
            raise UnknownTargetError(f"several projects are served here: {', '.join(self._apps)}", hint=f"Name one: /NAME{path}")
        if path.startswith("/v2/models/"):
            model = path.split("/")[3]
            if model not in self._apps:
                raise UnknownTargetError(f"there is no model {model[:80]!r} here; there are {', '.join(self._apps)}")
            return self._apps[model], path
        return self._first, path
