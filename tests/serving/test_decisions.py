"""The class that is served follows the signature's rule, in answers, tensors, files, pairs and golden rows alike."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from noria.delivery.batch import scoring
from noria.delivery.shadow_evidence import _Numbers
from noria.kernel.task import Task
from noria.models.signature import Decision, Input, Kind, Signature
from noria.serving import golden_rows, protocol, replay, v2_messages

INPUTS = (Input("a", Kind.NUMBER),)
TWO = ("no", "yes")


def signature(decision: Decision | None, classes: tuple[str, ...] = TWO) -> Signature:
    return Signature(INPUTS, Task.BINARY if len(classes) == 2 else Task.MULTICLASS, classes, decision=decision)


@pytest.mark.parametrize(
    ("decision", "answers", "due"),
    [
        (None, [[0.5, 0.5], [0.7, 0.3]], ["yes", "no"]),
        (Decision(0.3), [[0.7, 0.3], [0.71, 0.29]], ["yes", "no"]),
        (Decision(math.nextafter(0.5, 1.0)), [[0.5, 0.5], [0.4, 0.6]], ["no", "yes"]),
        (Decision(), [[0.9, 0.1, 1.0], [0.1, 0.9, 0.0]], ["yes", "no"]),
    ],
)
def test_two_classes_by_their_rule(decision: Decision | None, answers: list[list[float]], due: list[str]) -> None:
    """Number 28: in `/predict`, in tensors, and in files that were scored."""
    told = signature(decision)
    outputs = protocol.outputs(told, answers)
    assert [row["prediction"] for row in outputs] == due
    assert [row["probability"] for row in outputs] == [row[1] for row in answers]
    scored = scoring._outputs(told, np.array(answers))
    assert scored["prediction"].to_list() == due
    assert scored["probability"].to_list() == [row[1] for row in answers]
    assert golden_rows._answer(told, lambda columns: answers, {"a": [1.0]}) == answers[0][1]
    assert replay.variation(TWO, answers[0], TWO, answers[0][:2]) == 0.0
    assert msgspec.convert(msgspec.to_builtins(told), Signature) == told
    assert hash(told) == hash(msgspec.convert(msgspec.to_builtins(told), Signature))


def test_a_bundle_from_before_rules_were_known_keeps_the_half() -> None:
    old = msgspec.to_builtins(signature(None))
    del old["decision"]
    assert msgspec.convert(old, Signature) == signature(None)


def test_several_classes_as_the_model_says() -> None:
    """Number 28: the model's own class, which is not the likeliest one."""
    told = signature(Decision(), ("a", "b", "c"))
    answers = [[0.2, 0.5, 0.3, 2.0]]
    assert told.width == 4
    assert protocol.outputs(told, answers) == [{"prediction": "c", "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}}]
    assert scoring._outputs(told, np.array(answers))["prediction"].to_list() == ["c"]
    tensors = {output.name: output for output in v2_messages.outputs_of(told)}
    found = protocol.answerer(told)(answers)
    assert v2_messages.tensor(tensors["probabilities"], found, answers)["data"] == [0.2, 0.5, 0.3]
    assert golden_rows._answer(told, lambda columns: answers, {"a": [1.0]}) == [0.2, 0.5, 0.3]


def test_pairs_know_which_label_is_the_second_class_and_which_class_each_was_called() -> None:
    """Number 28: a threshold below a half does not turn labels round, and accuracy is that of the classes that were served."""
    new: dict[str, Any] = {"prediction": "yes", "probability": 0.35}
    old: dict[str, Any] = {"prediction": "no", "probability": 0.2}
    for certain, numbers in ((False, (0.35, 0.2)), (True, (1.0, 0.0))):
        book = _Numbers(TWO, certain)
        assert book.add(new, old)
        book.label(0, "yes")
        found = book.labelled_pairs()
        assert (found.y.tolist(), found.new.tolist(), found.old.tolist()) == ([1.0], [numbers[0]], [numbers[1]])
    several = _Numbers(("a", "b", "c"), certain=True)
    assert several.add(*({"prediction": p, "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}} for p in ("c", "b")))
    several.label(0, "c")
    assert several.labelled_pairs().new[0].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_the_protocol_tells_a_threshold() -> None:
    assert v2_messages.metadata("m", ["v1"], signature(Decision(0.3)), "noria")["parameters"]["threshold"] == "0.3"
    assert "threshold" not in v2_messages.metadata("m", ["v1"], signature(None), "noria")["parameters"]
