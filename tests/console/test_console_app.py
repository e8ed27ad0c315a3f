"""The console: who may come in, what each path answers, and that what others wrote cannot act on the page."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import console_story as story
import httpx
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import Route

from noria.console.app import build
from noria.delivery.rollout_record import Rollout
from noria.engine.action import Action, Value
from noria.engine.action_table import ACTIONS
from noria.kernel.errors import (
    ForbiddenError,
    LeaseLostError,
    NoriaError,
    NotFoundError,
    PortInUseError,
    RefusedError,
    ServingError,
    StoreError,
    UsageError,
)
from noria.views.runtime_status import StatusContext
from noria.views.status import StatusView, nothing_yet

TOKEN = "correct-horse-battery"
BASE = "http://127.0.0.1:8080"
BEARER = {"authorization": f"Bearer {TOKEN}"}
ACTOR = f"api:{hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}"  # number 52: which token it was
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


class Recorder:
    """Actions that note what they were asked, or fail as they are told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None

    def _do(self, *what: Any) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        self.asked.append(what)
        return {"done": what[0]}

    def __call__(self, action: Action, values: Mapping[str, Value], actor: str) -> dict[str, Any]:
        return self._do(action.verb, *values.values(), actor)


class Client:
    """httpx straight into the application; cookies are kept from call to call, redirects are not followed."""

    def __init__(self, app: Starlette, headers: dict[str, str]) -> None:
        self.app = app
        self.headers = headers
        self.cookies = httpx.Cookies()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, options))

    async def _request(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=self.headers, cookies=self.cookies) as http:
            answer = await http.request(method, path, **options)
            self.cookies = http.cookies
            return answer

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


class Desk:
    """The application with its view exchangeable."""

    def __init__(
        self, hosts: frozenset[str] = frozenset({"127.0.0.1:8080", "localhost"}), everywhere: bool = False, token: str = TOKEN
    ) -> None:
        self.view: StatusView = story.view()
        self.actions = Recorder()
        events = sorted(story.EVENTS, key=lambda e: e.seq)
        self.app = build(
            lambda: self.view,
            lambda after: [e for e in events if e.seq > after],
            self.actions,
            token=token,
            hosts=hosts,
            everywhere=everywhere,
        )

    def client(self, **headers: str) -> Client:
        return Client(self.app, headers)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def client(desk: Desk) -> Client:
    return desk.client(**BEARER)


READ = ("status", "turns", "releases", "rollouts", "events")
PATHS = ["/", "/fragment", "/metrics", "/static/console.css", *(f"/api/{name}" for name in READ)]
VERBS = tuple(ACTIONS)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "Basic " + TOKEN, TOKEN, "Bearer " + TOKEN[:-1], "Bearer " + TOKEN + "x"]
)
def test_every_path_needs_the_token(desk: Desk, path: str, header: str | None) -> None:
    given = {} if header is None else {"authorization": header}
    answer = desk.client().get(path, headers=given)
    assert answer.status_code == 401
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_the_token_opens_every_path(client: Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_a_person_without_the_token_learns_where_it_is(desk: Desk) -> None:
    answer = desk.client(accept="text/html").get("/")
    assert answer.status_code == 401
    assert "noria status" in answer.text
    style = re.search(r"style-src '(sha256-[^']+)'", answer.headers["content-security-policy"])
    assert style is not None


def test_the_address_with_the_token_signs_in_and_hides_it(desk: Desk) -> None:
    browser = desk.client(accept="text/html")
    answer = browser.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert browser.get("/").status_code == 200
    assert browser.get("/?token=wrong").status_code == 401


@pytest.mark.parametrize("verb", VERBS)
def test_the_cookie_only_reads(desk: Desk, verb: str) -> None:
    """A page elsewhere that makes this browser send a request cannot change anything, even with the right Origin."""
    browser = desk.client()
    browser.get(f"/?token={TOKEN}")
    answer = browser.post(f"/api/{verb}", json={"environment": "production"}, headers={"origin": BASE})
    assert answer.status_code == 401
    assert desk.actions.asked == []


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1:9999", "127.0.0.1.evil.example:8080", "", "localhost.evil:8080", "evil:localhost"]
)
def test_unknown_hosts_are_refused(desk: Desk, host: str) -> None:
    answer = desk.client(**BEARER).get("/api/status", headers={"host": host})
    assert answer.status_code == 403


def test_a_console_on_all_addresses_answers_to_each_of_them_and_to_no_other_name() -> None:
    """Number 54: `console.host: 0.0.0.0` answered 403 to everybody."""
    client = Desk(frozenset({"0.0.0.0", "localhost", "noria.corp"}), everywhere=True).client(**BEARER)
    for host, code in (("192.168.1.7:8080", 200), ("[fe80::1]:8080", 200), ("noria.corp", 200), ("evil.example:8080", 403)):
        assert client.get("/api/status", headers={"host": host}).status_code == code
    for origin, code in (("http://192.168.1.7:8080", 200), ("http://203.0.113.9", 403), ("http://evil.example", 403)):
        given = {"host": "192.168.1.7:8080", "origin": origin}
        assert client.get("/api/status", headers=given).status_code == code


def test_two_consoles_of_one_machine_do_not_share_a_cookie() -> None:
    """Number 34: cookies know no ports: signing in to the second signed out of the first."""
    names = []
    for token in (TOKEN, "another-" + TOKEN):
        answer = Desk(token=token).client(accept="text/html").get(f"/?token={token}")
        names.append(answer.headers["set-cookie"].partition("=")[0])
    assert len(set(names)) == 2


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "localhost:1234"])
def test_known_hosts_pass(desk: Desk, host: str) -> None:
    assert desk.client(**BEARER).get("/api/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8080.evil.example", "http://127.0.0.1:9999"]
)
def test_foreign_origins_are_refused(client: Client, desk: Desk, origin: str) -> None:
    answer = client.post("/api/trigger", json={}, headers={"origin": origin})
    assert answer.status_code == 403
    assert desk.actions.asked == []


class Elements(HTMLParser):
    """Every tag, and every attribute that could run or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    return elements


def hostile_rollout(rollout: Rollout) -> Rollout:
    look = rollout.look
    if look is not None:
        look = replace(look, text=f"`{HOSTILE}`", stands=tuple(replace(s, guard=HOSTILE, text=HOSTILE) for s in look.stands))
    plan, reason = (HOSTILE,) * len(rollout.plan), f"{HOSTILE} `{HOSTILE}`"
    return replace(rollout, reason=reason, release=HOSTILE, before=HOSTILE, environment=HOSTILE, look=look, plan=plan)


def test_hostile_texts_are_shown_and_do_nothing(desk: Desk, client: Client) -> None:
    plain = parsed(client.get("/").text)
    view = story.every_state()
    desk.view = replace(
        view,
        project=HOSTILE,
        around=replace(view.around, goal=HOSTILE),
        turns=tuple(replace(t, trigger=HOSTILE, reason=HOSTILE, release=HOSTILE) for t in view.turns),
        deliveries=tuple(replace(d, name=HOSTILE, reason=HOSTILE) for d in view.deliveries),
        alerts=tuple(replace(a, text=HOSTILE, kind=HOSTILE, release=HOSTILE) for a in view.alerts),
        events=tuple(replace(e, text=HOSTILE, actor=HOSTILE, kind=HOSTILE) for e in view.events),
        windows=tuple(replace(w, metric=HOSTILE, release=HOSTILE) for w in view.windows),
        releases=tuple(replace(r, metrics={HOSTILE: 1.0}) for r in view.releases),
        environments=tuple(
            replace(
                e,
                name=HOSTILE,
                route=replace(e.route, champion_version=HOSTILE) if e.route else None,
                release=replace(e.release, metrics={HOSTILE: 0.5}) if e.release else None,
                canary=replace(e.canary, rollout=hostile_rollout(e.canary.rollout)) if e.canary else None,
                probation=replace(e.probation, rollout=hostile_rollout(e.probation.rollout)) if e.probation else None,
            )
            for e in view.environments
        ),
        ended=tuple(hostile_rollout(r) for r in view.ended),
    )
    answer = client.get("/")
    assert answer.status_code == 200
    hostile = parsed(answer.text)
    assert hostile.tags.count("script") == plain.tags.count("script") == 1
    assert "img" not in hostile.tags
    assert not [name for name, _ in hostile.attributes if name.startswith("on")]
    assert "{{7*7}}" in answer.text  # shown, not computed


def test_the_page_needs_nothing_inline_and_nothing_from_elsewhere(client: Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    elements = parsed(answer.text)
    assert "style" not in elements.tags
    assert "style" not in {name for name, _ in elements.attributes}
    fetched = [value for name, value in elements.attributes if name in ("src", "data") and value]
    assert all(value.startswith("/static/") for value in fetched)
    for value in fetched:
        assert client.get(value).status_code == 200


def test_the_page_tells_the_story(client: Client) -> None:
    text = re.sub(r"<[^>]+>", " ", client.get("/").text)
    for turn in story.TURNS:
        assert str(turn.outcome) in text
    for needed in ("1,942", "16,071", "25 % of requests", "28,128 rows", story.AROUND.goal, "1 of 3 guards cleared"):
        assert needed in text


def test_the_fragment_has_the_pages_parts(client: Client) -> None:
    """The script replaces part by part: each must be in both."""
    parts = [set(re.findall(r'data-part="(\w+)"', client.get(path).text)) for path in ("/", "/fragment")]
    assert parts[0] == parts[1]
    assert len(parts[0]) >= 7


def test_an_empty_project_has_a_page_too(desk: Desk, client: Client) -> None:
    desk.view = nothing_yet("hello", StatusContext(environments=("production",)))
    answer = client.get("/")
    assert answer.status_code == 200
    assert "next: noria run" in answer.text


def test_status_and_lists(client: Client) -> None:
    status = client.get("/api/status").json()
    production = next(e for e in status["environments"] if e["name"] == "production")
    assert (production["release"], production["previous"]) == ("v2", "v1")
    assert production["canary"]["candidate"] == {"requests": 1942, "errors": 1, "slow": 4, "both": 0}
    assert [t["number"] for t in client.get("/api/turns").json()["turns"]] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [r["version"] for r in client.get("/api/releases").json()["releases"]] == ["v4", "v3", "v2", "v1"]


def test_events_go_on_where_the_reader_stopped(client: Client) -> None:
    first = client.get("/api/events").json()
    assert len(first["events"]) == len(story.EVENTS)
    assert client.get(f"/api/events?after={first['next'] - 2}").json()["events"] == first["events"][-2:]
    assert client.get(f"/api/events?after={first['next']}").json() == {"events": [], "next": first["next"]}


@pytest.mark.parametrize("after", ["-1", "x", "1e3", "", "9" * 40, "٣"])
def test_events_after_nonsense(client: Client, after: str) -> None:
    assert client.get("/api/events", params={"after": after}).status_code == 400


def test_rollouts_are_listed_with_their_evidence(desk: Desk, client: Client) -> None:
    desk.view = story.every_state()
    listed = client.get("/api/rollouts").json()
    found = listed["environments"].items()
    states = {name: [(facts[key] or {}).get("state") for key in ("canary", "probation")] for name, facts in found}
    assert states == {
        "waiting": ["waiting", None],
        "replay": ["replay", None],
        "canary": ["canary", None],
        "held": ["held", None],
        "probation": [None, "probation"],
    }
    guards = listed["environments"]["canary"]["canary"]["look"]["guards"]
    assert [(g["guard"], g["harmful"], g["cleared"]) for g in guards] == [
        ("errors", True, False),
        ("slow answers", False, False),
        ("brier", False, False),
    ]
    assert [r["release"] for r in listed["ended"]] == ["v3", "v2", "v1"]


def test_the_control_apis_page_names_every_path_and_key(desk: Desk, client: Client) -> None:
    page = (Path(__file__).parents[2] / "docs" / "control-api.md").read_text()
    paths = {route.path for route in desk.app.routes if isinstance(route, Route) and route.path.startswith("/api/")}
    named = set(re.findall(r"`(/api/\w+)", page))
    assert named == paths
    for verb in VERBS:
        refused = client.post(f"/api/{verb}", content=b'{"nonsense": 1}')
        assert refused.status_code == 400
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `/api/{verb}`")]
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == {field.name for field in ACTIONS[verb].fields}


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        ("/api/rollback", {"environment": "production"}, ("rollback", "production", None, ACTOR)),
        ("/api/rollback", {"to": "v1"}, ("rollback", None, "v1", ACTOR)),
        ("/api/rollback", {}, ("rollback", None, None, ACTOR)),
        ("/api/promote", {"release": "v3", "environment": "production"}, ("promote", "v3", "production", False, ACTOR)),
        ("/api/promote", {"release": "v3", "force": True}, ("promote", "v3", None, True, ACTOR)),
        ("/api/approve", {"release": "v3", "environment": "staging"}, ("approve", "v3", "staging", ACTOR)),
        ("/api/approve", {"release": "v3"}, ("approve", "v3", None, ACTOR)),
        ("/api/hold", {"environment": "staging", "why": "the fair is on"}, ("hold", "staging", "the fair is on", ACTOR)),
        ("/api/hold", {}, ("hold", None, "", ACTOR)),
        ("/api/resume", {"environment": "staging"}, ("resume", "staging", ACTOR)),
        ("/api/resume", {}, ("resume", None, ACTOR)),
        ("/api/abort", {"why": "wrong price"}, ("abort", None, "wrong price", ACTOR)),
        ("/api/trigger", {"reason": "new year"}, ("trigger", "new year", ACTOR)),
        ("/api/clock", {"at": "2013-04-01T00:00:00Z", "speed": 3600}, ("clock", "2013-04-01T00:00:00Z", 3600.0, ACTOR)),
        ("/api/clock", {"at": "2013-04-01"}, ("clock", "2013-04-01", 1.0, ACTOR)),
    ],
)
def test_actions(client: Client, desk: Desk, path: str, body: dict[str, Any], asked: tuple[Any, ...]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert desk.actions.asked == [asked]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/promote", b""),
        ("/api/rollback", b"not json"),
        ("/api/rollback", b"\xff\xfe"),
        ("/api/rollback", b"[]"),
        ("/api/rollback", b'{"environment": 1}'),
        ("/api/rollback", b'{"environment": "x", "more": 1}'),
        ("/api/promote", b'{"environment": "production"}'),
        ("/api/promote", b'{"release": "v3", "force": "yes"}'),
        ("/api/approve", b'{"environment": "production"}'),
        ("/api/hold", b'{"why": null}'),
        ("/api/resume", b'{"release": "v3"}'),
        ("/api/abort", b'{"why": 7}'),
        ("/api/clock", b'{"at": 5}'),
        ("/api/clock", b'{"at": "2013-04-01", "speed": "fast"}'),
        ("/api/rollback", b"[" * 5000),
    ],
)
def test_bad_bodies_are_a_400_with_a_reason(client: Client, desk: Desk, path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert desk.actions.asked == []


def test_a_huge_body_is_refused(client: Client) -> None:
    assert client.post("/api/trigger", content=b'{"reason": "' + b"x" * 100_000 + b'"}').status_code == 413


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("there is no v9", hint="v1"), 404),
        (RefusedError("barred"), 409),
        (UsageError("no"), 400),
        (ForbiddenError("no"), 403),
        (StoreError("disk"), 503),
        (LeaseLostError("gone"), 503),
        (ServingError("down"), 503),
        (PortInUseError("taken"), 503),
        (NoriaError("other"), 500),
    ],
)
def test_errors_become_status_codes(client: Client, desk: Desk, error: NoriaError, status: int) -> None:
    desk.actions.fails = error
    answer = client.post("/api/rollback", json={"environment": "production"})
    assert answer.status_code == status
    assert answer.json() == {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}


def test_a_defect_shows_no_trace(client: Client, desk: Desk) -> None:
    desk.actions.fails = ZeroDivisionError("secret detail")
    answer = client.post("/api/rollback", json={"environment": "production"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/api/rollback", 405), ("POST", "/", 405), ("DELETE", "/api/turns", 405)],
)
def test_wrong_paths_and_methods(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
