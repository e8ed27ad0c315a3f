"""The result of a replay: logged requests sent to candidate and champion, one after another, outside the server."""

from __future__ import annotations

import msgspec


class Replayed(msgspec.Struct, frozen=True):
    """Counts and summaries, never rows. A request is one logged row; times are those of the model's call."""

    requests: int = 0  # that both releases were asked
    wanted: int = 0  # that were to be asked; fewer were when time ran out
    champion_errors: int = 0  # it raised, broke, or passed the deadline
    candidate_errors: int = 0
    champion_only: int = 0  # the champion failed, and the candidate answered
    candidate_only: int = 0
    unreadable: int = 0  # lack an input that the candidate needs: among its errors
    champion_slow: int = 0
    candidate_slow: int = 0
    champion_slow_only: int = 0
    candidate_slow_only: int = 0
    champion_median_ms: float = 0.0  # of its answers; 0 when there are none
    champion_p99_ms: float = 0.0
    candidate_median_ms: float = 0.0
    candidate_p99_ms: float = 0.0
    compared: int = 0  # that both answered
    difference: float = 0.0  # of the answers, in [0, 1], the mean over those
    changed: float | None = None  # share of those with another class; None for numbers
    timed_out: bool = False  # the candidate did not come back within the time for all of it
    failed: str = ""  # why the candidate cannot be asked at all: it does not load, or ends its process
    why: str = ""  # why nothing was replayed


CHAMPION, CANDIDATE = "champion", "candidate"  # whose turn it is, as the process that replays says it


class ReplayOrder(msgspec.Struct, frozen=True):
    """The order for a replay; releases by their digest."""

    state: str  # folder
    project: str
    environment: str
    champion: str
    candidate: str
    requests: int  # at most
    deadline_ms: float  # of each answer
    slow_ms: float
    timeout_s: float  # for all of it
    sockets: str  # a folder for host processes
    seed: int  # of who is asked first
