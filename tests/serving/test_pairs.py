"""From the wire to the evidence: what a running server writes of a rollout is what its book of pairs reads."""

from __future__ import annotations

import numpy as np
from serving_bundles import PROJECT, compiled, wait_for
from serving_world import World

from noria.delivery.shadow_evidence import ShadowEvidence
from noria.kernel import names


def test_both_releases_answers_and_the_labels_of_their_requests_arrive(world: World) -> None:
    old, new = (compiled(world.seal, world.scratch, seed) for seed in (0, 7))
    rollout = names.new_id("rollout")
    world.serve(old, "v1", candidate=new, candidate_version="v2", share=0.5, shadow=1.0, rollout_id=rollout)
    folders = (world.state / "log" / "production", world.state / "shadow" / "production")
    book, client = ShadowEvidence(*folders, rollout, PROJECT, "v2"), world.client()
    given: list[tuple[str, float]] = []  # who answered, and what
    for i in range(40):
        body = {"carrier": "AA", "distance": 2 + i / 20, "flight_id": f"f{i}"}
        answer = client.post("/predict", json=body).json()
        prediction = answer["predictions"][0]
        given.append((answer["release"], prediction["probability"]))
        named = {"id": prediction["id"]} if i % 2 else {"key": f"f{i}"}
        assert client.post("/feedback", json=named | {"label": i % 3 % 2}).status_code < 300
    batch = client.post("/predict", json=[{"carrier": "UA", "distance": 1.0}] * 3).json()
    assert len(batch["predictions"]) == 3
    wait_for(lambda: book.poll() and book.labelled_pairs().pairs == 43)
    told = book.labelled_pairs()
    assert told.count == 40
    assert told.y.sum() == sum(i % 3 % 2 for i in range(40))
    assert np.isin([p for release, p in given if release == "v2"], told.new).all()
    assert np.isin([p for release, p in given if release == "v1"], told.old).all()
    assert not np.isin(told.new, told.old).any()
    champion, candidate = book.latencies()
    assert (len(champion) + len(candidate), len(candidate) > 0) == (41, True)
