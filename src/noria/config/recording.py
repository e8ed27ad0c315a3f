"""`serving.log` in noria.yaml: what the prediction log holds, and for how long."""

from __future__ import annotations

from noria.config.document import nearest
from noria.config.project import Model
from noria.config.shapes import Section
from noria.kernel.policy import RECORD_ALL, LogPolicy, MonitorPolicy, WhenFull
from noria.kernel.words import lasting

DAY_S = 86_400.0


def read_log(root: Section, model: Model | None) -> LogPolicy:
    """The policy. Raises ConfigError where it names what no request carries, or keeps less than the monitor needs."""
    serving: Section | None = root.get("serving")
    section = serving.get("log", "all") if serving is not None else "all"
    if isinstance(section, str):
        return RECORD_ALL
    _demand_known(section, model)
    _demand_kept(section, root.get("monitor"))
    given = section.given(sample="sample", keep_s="keep", redact="redact")
    return LogPolicy(**given, when_full=WhenFull(section.get("when_full", "refuse")))


def _demand_known(section: Section, model: Model | None) -> None:
    """A name that is written wrong would let the column through, so it is an error, where the inputs are known."""
    if model is None or not model.inputs:
        return
    known = [name for name in (*model.inputs, model.key, model.event_time) if name is not None]
    for index, name in enumerate(section.get("redact", ())):
        if name not in known:
            hint = nearest(name, known) or f"A request carries {', '.join(known)}."
            raise section.at("redact").value[index].error(f"no request carries {name!r}", hint)


def _demand_kept(section: Section, monitor: Section | None) -> None:
    """Windows are judged from the log: it must hold a whole one when its labels are due."""
    keep_s = section.get("keep")
    if keep_s is None:
        return
    defaults = MonitorPolicy()
    every_s = monitor.get("every", defaults.every_s) if monitor is not None else defaults.every_s
    delay_s = monitor.get("label_delay", defaults.label_delay_s) if monitor is not None else defaults.label_delay_s
    if keep_s < max(DAY_S, every_s + delay_s):
        raise section.at("keep").error(
            f"the monitor judges a window {lasting(every_s + delay_s)} after its start, when the log would already be deleted",
            "Keep it for at least monitor.every plus monitor.label_delay, and at least one day.",
        )
