"""The story of a release, run, turn or delivery in plain text, from the documents that `noria show` gathers."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import click
import msgspec

from noria.cli.output import day, duration, moment, number, pairs, percent, plain, plural, section, table
from noria.evaluation.records import HoldoutBudget
from noria.kernel import names
from noria.kernel.words import size

Facts = Mapping[str, Any]


def tell(document: Facts) -> str:
    """The document as text."""
    tellers: dict[str, Callable[[Facts], str]] = {"release": release, "turn": turn, "run": run, "delivery": delivery}
    return tellers[document["kind"]](document)


def release(document: Facts) -> str:
    """What, when, why, from what, how good, how it went live."""
    chapters = (
        ("Release", _head(document)),
        ("Why", _why(document)),
        ("Imported", _origin(document.get("origin"))),
        ("Made from", _sources(document)),
        ("Steps", _steps(document.get("steps") or _of(document, "run", "steps"))),
        ("Evaluation", _evaluation(document.get("evaluation"))),
        ("Gates", _gates(document.get("gate"))),
        ("Decisions", "\n".join(plain(f"{one['kind']}: {one['text']}") for one in document.get("decisions", ()))),
        ("Package", _package(document)),
        ("Rollouts", _rollouts(document["rollouts"])),
        ("Live quality", _quality(document["quality"])),
        ("Not in the bundle", ", ".join(document["missing"])),
    )
    return "\n".join(section(title, body) for title, body in chapters if body)


def _origin(facts: Facts | None) -> str:
    """Where the model of a release comes from that no run made."""
    if not facts:
        return ""
    items = [
        ("file", f"{facts['file']}, {facts['size_bytes']:,} bytes"),
        ("sha256", facts["sha256"]),
        ("framework", facts["framework"]),
        ("by", f"{facts['by']}, {facts['at']}" + (", who vouched for its code" if facts["vouched"] else "")),
        ("compared on", facts["compared_on"]),
        ("gates", "none: promoting it by hand is its approval"),
    ]
    read = facts.get("read_with", {})  # releases from before it was recorded say nothing
    for library, version in facts.get("written_with", {}).items():
        other = "" if read.get(library, version) == version else f"; read by {read[library]}"
        items.append(("saved by", f"{library} {version}{other}"))
    items += [("warning", text) for text in facts.get("warnings", ())] + [("trusted", name) for name in facts["trusted"]]
    items += [("note", text) for text in facts.get("notes", ())]
    return pairs(items + [("derived", text) for text in facts["derived"]])


def turn(document: Facts) -> str:
    """What set it off, what it did, how it ended."""
    facts = document["turn"]
    head = [
        ("turn", f"{facts['number']}  ({facts['id']})"),
        ("verdict", facts["outcome"] if facts["outcome"] != "running" else f"running: {facts['stage']}"),
        ("because", facts["reason"] or "–"),
        ("release", facts["release"] or "–"),
        ("started", moment(facts["started_at"])),
        ("ended", moment(facts["ended_at"])),
        ("own code", duration(facts["user_s"])),
        ("overhead", duration(facts["overhead_s"])),
    ]
    chapters = (
        ("Turn", pairs(head)),
        ("Why", _why(document)),
        ("Made from", _pins(document.get("run"))),
        ("Steps", _steps(_of(document, "run", "steps"))),
        ("Evaluation", _evaluation(document.get("evaluation"))),
        ("Gates", _gates(document.get("gate"))),
        ("Logs", _logs(document)),
        ("Series", _series(document)),
        ("Rollouts", _rollouts(document["rollouts"])),
    )
    return "\n".join(section(title, body) for title, body in chapters if body)


def run(document: Facts) -> str:
    """One execution: its pins, parameters, steps, metrics, and what it left."""
    facts = document["run"]
    head = [
        ("run", facts["id"]),
        ("kind", f"{facts['kind']} of {facts['parent']}" if facts["parent"] else facts["kind"]),
        ("outcome", facts["outcome"] or "running"),
        ("because", facts["reason"] or "–"),
        ("started", moment(facts["started_at"])),
        ("ended", moment(facts["ended_at"])),
        *([("tags", ", ".join(facts["tags"]))] if facts["tags"] else []),
        *([("note", facts["note"])] if facts["note"] else []),
    ]
    metrics = pairs([(name, number(value)) for name, value in facts["metrics"].items()])
    chapters = (
        ("Not the latest turn", early(document.get("ended_early"))),
        ("Run", pairs(head)),
        ("Why", _why(document)),
        ("Made from", _pins(facts)),
        ("Parameters", pairs(list(facts["params"].items()))),
        ("Steps", _steps(facts["steps"])),
        ("Evaluation", _evaluation(document.get("evaluation"))),
        ("Gates", _gates(document.get("gate"))),
        ("Logs", _logs(document)),
        ("Metrics", metrics),
        ("What serves, on the same rows", _serving(facts.get("serving"))),
        ("Series", _series(document)),
        ("Plots", _files(facts["plots"])),
        ("Artifacts", _files(facts["artifacts"])),
    )
    return "\n".join(section(title, body) for title, body in chapters if body)


def _serving(facts: Facts | None) -> str:
    """What serves, on the rows that an experiment or a trial was judged on."""
    if not facts:
        return ""
    if facts["note"]:
        return plain(f"{facts['release']} has no score there: {facts['note']}")
    told = f"{facts['release']}: its code and parameters, fitted on the same training rows as this run"
    return "\n".join([plain(told), pairs([(name, number(value)) for name, value in facts["metrics"].items()])])


def early(turn: Facts | None) -> str:
    """A turn that came after the latest run, and ended before it had a run of its own."""
    if turn is None:
        return ""
    return plain(f"turn {turn['number']} came after this run and ended without one: {turn['outcome']}: {turn['reason']}")


def delivery(document: Facts) -> str:
    """A file, its rows, and the verdict."""
    facts = document["delivery"]
    balance = f"{facts['rows_in']:,} in = {facts['rows_passed']:,} passed + {facts['rows_quarantined']:,} quarantined"
    accepted = "accepted without the rows that fail" if facts["rows_quarantined"] else "accepted"
    lines = [
        ("file", facts["name"]),
        ("dataset", facts["dataset"]),
        ("verdict", accepted if facts["accepted"] else "quarantined"),
        ("because", facts["reason"]),
        ("rows", balance),
        ("failing rows", f"{facts['failing_rows']:,}"),
        ("digest", facts["digest"]),
        ("judged", moment(facts["at"])),
    ]
    if facts["kept_digest"]:
        lines.append(("without them", facts["kept_digest"]))
    decision = document["decision"]
    if decision:
        lines.append((decision["outcome"], f"by {decision['actor']}, {moment(decision['at'])}: {decision['why']}"))
    if facts["sample_digest"]:
        lines.append(("rows that fail", f"noria data quarantine export {facts['id']} --into failing.csv"))
    return section("Delivery", pairs(lines))


def _of(document: Facts, *path: str) -> Any:
    """The value at the end of ``path``, or None where a part of it is missing."""
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _head(document: Facts) -> str:
    facts = document["release"]
    lines = [
        ("version", facts["version"]),
        ("digest", facts["digest"]),
        ("serves", ", ".join(document["serves"]) or "nowhere"),
        ("form", facts["form"]),
        ("sealed", moment(facts["created_at"])),
        ("run", facts["run_id"]),
    ]
    if facts["barred"]:
        lines.append(("barred", facts["barred"]))
    if document["not_reproducible"]:
        lines.append(("not reproducible", document["not_reproducible"]))
    return pairs(lines)


def _why(document: Facts) -> str:
    lines = [plain(f"{t['kind']}: {t['reason']}") for t in document.get("triggers") or []]
    told = _of(document, "turn", "reason")
    if document["kind"] != "turn" and told:
        lines.append(plain(f"turn {_of(document, 'turn', 'number')}, {_of(document, 'turn', 'outcome')}: {told}"))
    return "\n".join(lines) or plain(_of(document, "turn", "trigger") or "")


def _sources(document: Facts) -> str:
    lines = [("commit", document["release"]["commit"] or "–")]
    for name, snapshot in (document.get("data") or {}).items():
        files = snapshot.get("files", [])
        rows = sum(f.get("rows", 0) for f in files)
        lines.append((name, f"{plural(rows, 'row')} in {plural(len(files), 'file')}, snapshot {names.short(snapshot['digest'])}"))
    split = _of(document, "training", "split", "sentence")
    if split:
        lines.append(("held out", split))
    lines += [("params", _inline(document["params"]))] if document.get("params") else []
    lines += [("environment", _environment(document["environment"]))] if document.get("environment") else []
    return pairs(lines)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {{{_inline(v)}}}" if isinstance(v, Mapping) else f"{k}={v}" for k, v in value.items())
    return str(value)


def _environment(facts: Facts) -> str:
    """The short of it: plain values first, how many packages last."""
    packages = facts.get("packages")
    short = [f"{k} {v}" for k, v in facts.items() if isinstance(v, str | int | float) and len(str(v)) < 60]
    return ", ".join(short[:6] + ([plural(len(packages), "package")] if isinstance(packages, list | dict) else []))


def _pins(run: Facts | None) -> str:
    if run is None:
        return ""
    pins = run["pins"]
    dirty = f", with changes {names.short(pins['dirty'])}" if pins["dirty"] else ""
    lines = [("commit", f"{pins['commit'] or '–'}{dirty}")]
    lines += [(name, f"snapshot {names.short(digest)}") for name, digest in pins["snapshots"].items()]
    lines += [(name, names.short(pins[name])) for name in ("params", "config", "environment")]
    return pairs(lines)


def _steps(steps: list[Facts] | None) -> str:
    if not steps:
        return ""
    rows = [
        (s["name"], _state(s), duration(s["seconds"]), *_resource_cells(s), s["reason"]["text"].partition("\n")[0]) for s in steps
    ]
    return table(("step", "what", "time", "cpu", "memory", "read", "written", "why"), rows)


def _state(step: Facts) -> str:
    attempts = step.get("attempts", 1)
    return f"{step['state']}, attempt {attempts}" if attempts > 1 else str(step["state"])


def _resource_cells(step: Facts) -> tuple[str, str, str, str]:
    """Processor time, peak memory, and what was read and written; dashes for a step that did not run here."""
    if not step["seconds"] and not step["peak_rss_mb"]:
        return ("–",) * 4
    memory = size(step["peak_rss_mb"] * 1e6)
    return (
        duration(step.get("cpu_s", 0.0)),
        memory,
        size(step.get("read_mb", 0.0) * 1e6),
        size(step.get("written_mb", 0.0) * 1e6),
    )


def _logs(document: Facts) -> str:
    """How the steps' logs end."""
    logs: Mapping[str, str] = document.get("logs") or {}
    run_id = _of(document, "run", "id")
    parts = [f"{click.style(name, bold=True)}\n{textwrap.indent(plain(tail, lines=True), '  ')}" for name, tail in logs.items()]
    return "\n".join([*parts, click.style(f"whole: noria show {run_id} --log STEP", dim=True)]) if parts else ""


def _series(document: Facts) -> str:
    rows = [
        (f"{step}.{name}", f"{s['points']:,}", number(s["last"]), number(s["least"]), number(s["most"]))
        for step, of_step in (document.get("series") or {}).items()
        for name, s in of_step.items()
    ]
    return table(("series", "points", "last", "smallest", "largest"), rows) if rows else ""


def _files(files: Mapping[str, str]) -> str:
    return pairs([(name, f"blobs/{digest[:2]}/{digest}") for name, digest in files.items()])


def _evaluation(facts: Facts | None) -> str:
    if not facts:
        return ""
    versus = facts.get("versus") or {}
    rows = [
        (
            name,
            _render_number(m["value"]),
            f"{_render_number(m['low'])} to {_render_number(m['high'])}",
            f"{m['n']:,}",
            _versus(versus.get(name)),
        )
        for name, m in facts["metrics"].items()
    ]
    champion = f"against {facts['champion']}" if facts.get("champion") else "champion"
    median, slowest = facts["latency_p50_ms"], facts["latency_p99_ms"]
    speed = f"latency {median:.3g} ms median, {slowest:.3g} ms p99; {size(facts['model_size_mb'] * 1e6)}"
    notes = [
        text
        for text in (facts.get("holdout"), speed, facts.get("champion_note"), _best(facts), *facts.get("remarks", ()))
        if text
    ]
    return "\n".join([table(("metric", "value", "one-sided 95 % bounds", "rows", champion), rows), *map(plain, notes)])


def _best(facts: Facts) -> str:
    """How far the candidate is from the best release so far, where that is not the champion."""
    best = facts.get("best")
    if best is None or best == facts.get("champion"):
        return ""
    found = [f"{name} {_versus(comparison)}" for name, comparison in (facts.get("versus_best") or {}).items()]
    return f"against {best}, the best release so far: " + "; ".join(text.replace("champion", best) for text in found)


def _versus(comparison: Facts | None) -> str:
    if comparison is None:
        return "–"
    found = [comparison[name] for name in ("difference", "low", "high")]
    difference, low, high = ("not defined" if value is None else f"{value:+.4g}" for value in found)
    return f"{difference} ({low} to {high}), champion {_render_number(comparison['champion'])}"


def _render_number(value: float | None) -> str:
    """A number that may not be defined: JSON holds it as null."""
    return "not defined" if value is None else number(value)


def _gates(verdict: Facts | None) -> str:
    if not verdict:
        return ""
    colours = {"pass": "green", "fail": "red"}
    reasons = verdict.get("reasons", [])
    lines = [f"{click.style(r['outcome'], fg=colours.get(r['outcome'], 'yellow'))}  {plain(r['text'])}" for r in reasons]
    holdout = verdict.get("holdout")
    if holdout and not any(r["code"].startswith("gate.holdout") for r in reasons):
        lines.append(msgspec.convert(holdout, HoldoutBudget).words)
    return "\n".join(lines)


def _package(document: Facts) -> str:
    parity = document.get("parity")
    if not parity:
        return ""
    return pairs(
        [
            (k.replace("_", " "), number(v) if isinstance(v, float) else v)
            for k, v in parity.items()
            if v is not None and not isinstance(v, dict | list)
        ]
    )


def _rollouts(rollouts: list[Facts]) -> str:
    return "\n".join(_rollout(r) for r in rollouts)


def _rollout(facts: Facts) -> str:
    head = plain(f"{facts['environment']}: {facts['state']}, begun {moment(facts['started_at'])}; {facts['reason']}")
    if not facts["blocks"]:
        return head
    rows = []
    for (paired, share), looks in itertools.groupby(facts["blocks"], key=lambda b: (b["paired"], b["share"])):
        blocks = list(looks)
        arms = [_arm({n: sum(b[arm][n] for b in blocks) for n in blocks[0][arm]}) for arm in ("candidate", "champion")]
        rows.append(("pairs" if paired else percent(share), len(blocks), *arms[0], *arms[1]))
    rows.append(("total", len(facts["blocks"]), *_arm(facts["totals"]["candidate"]), *_arm(facts["totals"]["champion"])))
    heads = ("share", "looks", f"{facts['release']} requests", "errors", "slow", "champion requests", "errors", "slow")
    parts = [head, table(heads, rows)]
    if facts["look"]:
        stands = [
            (s["guard"], *(f"{s[k]:,.4g} of {s[f'{k}_needed']:,.4g}" for k in ("harm", "safe")), s["text"])
            for s in facts["look"]["stands"]
        ]
        parts += [table(("guard", "harm, of needed", "safe, of needed", "seen"), stands)]
    return "\n".join(parts)


def _arm(tally: Facts) -> tuple[str, str, str]:
    return f"{tally['requests']:,}", f"{tally['errors']:,}", f"{tally['slow']:,}"


def _quality(windows: list[Facts]) -> str:
    if not windows:
        return ""
    rows = [
        (
            w["environment"],
            day(w["start"]),
            f"{w['labelled']:,} of {w['predictions']:,}",
            number(w["value"]),
            number(w["reference"]),
            _drift(w),
        )
        for w in sorted(windows, key=lambda w: w["start"])[-20:]
    ]
    return table(("environment", "window from", "labelled", windows[0]["metric"], "holdout", "worst drift"), rows)


def _drift(window: Facts) -> str:
    return f"{window['drift_column']} {number(window['drift_score'])}" if window["drift_column"] else "–"
