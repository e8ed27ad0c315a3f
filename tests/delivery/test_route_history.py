"""The routes of several projects and environments in one ledger, against a list in memory: any order of changes."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from noria.kernel.errors import StoreError
from noria.serving.route import Route, revision_of, tally_key
from noria.serving.route_store import RouteStore, all_routes
from noria.storage.ledger import Ledger

PLACES = [("p", "staging"), ("p", "production"), ("q", "production")]
places, versions = st.sampled_from(PLACES), st.integers(1, 4)


class Routes(RuleBasedStateMachine):
    """The store beside lists of what was put."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open(Path(self.folder.name))
        for project in ("p", "q"):
            self.ledger.projects.ensure(project, project)
        self.known: dict[tuple[str, str], list[Route]] = {place: [] for place in PLACES}

    @rule(place=places, version=versions, share=st.sampled_from([0.0, 0.1]))
    def put(self, place: tuple[str, str], version: int, share: float) -> None:
        made = Route(*place, 0, str(version) * 64, f"v{version}", share=share)
        put = RouteStore(self.ledger, place[0]).put(made)
        assert put == replace(made, revision=len(self.known[place]) + 1)
        self.known[place].append(put)

    @rule(place=places, version=versions, late=st.integers(-1, 1))
    def put_after(self, place: tuple[str, str], version: int, late: int) -> None:
        """From what was read: only where nobody changed it since."""
        revision = len(self.known[place])
        made = Route(*place, 0, str(version) * 64, f"v{version}")
        if late == 0:
            self.known[place].append(RouteStore(self.ledger, place[0]).put(made, expected_revision=revision))
            return
        with pytest.raises(StoreError, match=f"^the route of {place[1]} changed meanwhile: revision {revision}, not"):
            RouteStore(self.ledger, place[0]).put(made, expected_revision=revision + late)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "known"):
            return
        for (project, environment), routes in self.known.items():
            assert RouteStore(self.ledger, project).get(environment) == (routes[-1] if routes else None)
            assert RouteStore(self.ledger, project).history(environment) == routes[::-1]
            served = [version for version, _ in itertools.groupby(route.champion_version for route in routes)]
            assert RouteStore(self.ledger, project).champions(environment) == served[::-1]
        newest = [routes[-1] for routes in self.known.values() if routes]
        assert all_routes(self.ledger) == sorted(newest, key=lambda r: (r.project, r.environment))

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()


TestRoutes = Routes.TestCase
TestRoutes.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize("revision", [1, 2, 0xFFFFFF])
def test_a_tally_is_found_by_its_own_project_alone(revision: int) -> None:
    key = tally_key("p", revision)
    assert (revision_of(key, "p"), revision_of(key, "q")) == (revision, None)
