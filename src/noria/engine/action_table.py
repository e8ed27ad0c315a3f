"""All that a person may do, one entry each: the command line, the control API, the console and the docs are made from it.

To add one, write its entry here and its function in `engine.actions`. Light: `noria --help` reads it.
"""

from __future__ import annotations

from noria.engine.action import Action, ActionField, FieldKind, Who

ENVIRONMENT = ActionField("environment", "Where; the last environment of noria.yaml when not named.", short="-e")
RELEASE = ActionField("release", "The release, as in v3.", required=True, positional=True)
WHY = ActionField("why", "A reason for the record.", default="")
DELIVERED = ("environment", "release", "text", "ms")

_ALL = (
    Action(
        verb="approve",
        command=("approve",),
        line="Say yes to a release that waits for it.",
        about="Approve of RELEASE (v3) for an environment; a rollout that waits for it goes on by itself. All approvals of "
        "one account, or of the control API's token, count as one; `missing` tells how many more are needed.",
        examples=("noria approve v3", "noria approve v3 --environment production"),
        answers=(*DELIVERED, "missing"),
        event="release.approved",
        function="noria.engine.actions:approve",
        fields=(RELEASE, ENVIRONMENT),
        codes="0; 1 the release is barred; 2 no such release or environment",
        who=Who.PERSON,
    ),
    Action(
        verb="promote",
        command=("promote",),
        line="Let a release serve an environment.",
        about="Let RELEASE (v3) serve an environment at once; counts as an approval, and lifts a bar. Refused in a freeze, "
        "and while more people must approve.",
        examples=("noria promote v3", "noria promote v3 --environment staging"),
        answers=DELIVERED,
        event="rollout.promoted",
        function="noria.engine.actions:promote",
        fields=(RELEASE, ENVIRONMENT, ActionField("force", "In a freeze too.", FieldKind.FLAG, default=False)),
        codes="0; 1 refused; 2 no such release or environment",
        who=Who.PERSON,
        timed=True,
    ),
    Action(
        verb="rollback",
        command=("rollback",),
        line="Put an earlier release back.",
        about="Put an earlier release back; a rollout that is under way is ended instead. The one that leaves is barred: a "
        "second rollback goes one further. The release before is still resident, so that takes milliseconds; an older "
        "one is loaded first.",
        examples=("noria rollback", "noria rollback --environment staging", "noria rollback --to v7"),
        answers=DELIVERED,
        event="environment.rolled_back",
        function="noria.engine.actions:roll_back",
        fields=(ENVIRONMENT, ActionField("to", "To this one; else to the newest before that nobody barred.", metavar="RELEASE")),
        codes="0; 1 refused, with what may be done; 2 no such environment",
        while_broken=True,
        timed=True,
    ),
    Action(
        verb="hold",
        command=("rollout", "hold"),
        line="Stay where it is until somebody resumes it.",
        about="Stay where it is until somebody resumes it; harm still ends it.",
        examples=('noria rollout hold --why "wait for the new labels"',),
        answers=DELIVERED,
        event="rollout.held",
        function="noria.engine.actions:hold",
        fields=(ENVIRONMENT, WHY),
        while_broken=True,
        timed=True,
    ),
    Action(
        verb="resume",
        command=("rollout", "resume"),
        line="Go on with a held rollout.",
        about="Go on with a held rollout where it stood; patience counts anew.",
        examples=("noria rollout resume",),
        answers=DELIVERED,
        event="rollout.resumed",
        function="noria.engine.actions:resume",
        fields=(ENVIRONMENT,),
        timed=True,
    ),
    Action(
        verb="abort",
        command=("rollout", "abort"),
        line="End it, and bar its release.",
        about="End it: the champion takes all traffic, the candidate is barred until `noria release lift` or `noria promote`.",
        examples=('noria rollout abort --why "the price changed"',),
        answers=DELIVERED,
        event="rollout.rolled_back",
        function="noria.engine.actions:abort",
        fields=(ENVIRONMENT, WHY),
        while_broken=True,
        timed=True,
    ),
    Action(
        verb="withdraw",
        command=("release", "withdraw"),
        line="Bar a release.",
        about="Bar RELEASE (v3): no rollback goes to it, and no turn releases its code with its data again, until a person "
        "lifts the bar (`noria release lift`) or promotes it. Refused while it serves, or is being rolled out.",
        examples=('noria release withdraw v3 --why "trained on the wrong labels"',),
        answers=("release", "barred", "text"),
        event="release.withdrawn",
        function="noria.engine.actions:withdraw",
        fields=(RELEASE, ActionField("why", "The reason, as people will read it.", required=True, metavar="TEXT")),
        while_broken=True,
    ),
    Action(
        verb="lift",
        command=("release", "lift"),
        line="Lift the bar of a release.",
        about="Lift the bar of RELEASE (v3), which was withdrawn or rolled back: it may go out again. Nothing is served by that.",
        examples=("noria release lift v3",),
        answers=("release", "was", "text"),
        event="release.lifted",
        function="noria.engine.actions:lift",
        fields=(RELEASE,),
    ),
    Action(
        verb="trigger",
        command=("trigger",),
        line="Ask the daemon for a turn.",
        about="Ask for a turn: the daemon begins it at once, or `noria up` when it starts. `noria run` turns the wheel here "
        "instead.",
        examples=("noria trigger", 'noria trigger --reason "the new price list"'),
        answers=("trigger", "text"),
        event="trigger.seen",
        function="noria.engine.actions:trigger",
        fields=(ActionField("reason", "Why, for the audit log.", default="asked by a person"),),
        codes="0; 1 an equal trigger is already waiting",
        starts_turn=True,
    ),
    Action(
        verb="clock",
        command=("clock",),
        line="Set the project clock of a replay.",
        about="Set the project clock of a replay: AT, in ISO 8601 (UTC without an offset), is now, and it runs so many "
        "times as fast as the wall clock. Schedules, patience and windows go by it.",
        examples=("noria clock 2013-04-01", "noria clock 2013-04-01T06:00:00Z --speed 3600"),
        answers=("at", "speed", "actor", "text"),
        event="clock.set",
        function="noria.engine.actions:set_clock",
        fields=(
            ActionField("at", "The moment, in ISO 8601; UTC without an offset.", required=True, positional=True),
            ActionField("speed", "Project seconds in a second.", FieldKind.NUMBER, default=1.0),
        ),
    ),
)
ACTIONS = {action.verb: action for action in _ALL}


def at_the_top() -> dict[str, Action]:
    """Those that are commands of their own, by their command."""
    return {action.command[0]: action for action in ACTIONS.values() if len(action.command) == 1}


def below(group: str) -> dict[str, Action]:
    """Those that are commands of a group, by their command: hold, resume and abort of `rollout`."""
    return {action.command[1]: action for action in ACTIONS.values() if len(action.command) > 1 and action.command[0] == group}
