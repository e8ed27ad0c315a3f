"""Everything a person may do, one entry each. The command line, the control API, the console and the docs read this table.

To add one, write its entry here and its function in `engine.actions`. Light: `noria --help` reads it.
"""

from __future__ import annotations

from noria.engine.action import Action, ActionField, FieldKind, Who

ENVIRONMENT = ActionField("environment", "The environment; by default the last one of noria.yaml.", short="-e")
RELEASE = ActionField("release", "The release, as in v3.", required=True, positional=True)
WHY = ActionField("why", "A reason for the record.", default="")
NEEDED_WHY = ActionField("why", "The reason, as people will read it.", required=True, metavar="TEXT")
REFUSED = ActionField("delivery", "The delivery in quarantine: its id, or the beginning of it.", required=True, positional=True)
DELIVERED = ("environment", "release", "text", "ms")

_ALL = (
    Action(
        verb="approve",
        command=("approve",),
        line="Approve a release for an environment.",
        about="Approve RELEASE (v3) for an environment; a rollout that waits for the approval continues by itself. All approvals "
        "by one account, or with the control API's token, count as one; `missing` says how many more are needed.",
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
        line="Make a release the champion of an environment.",
        about="Make RELEASE (v3) the champion of an environment at once. It counts as an approval, and lifts a bar. Refused "
        "during a freeze, and while more people must approve.",
        examples=("noria promote v3", "noria promote v3 --environment staging"),
        answers=DELIVERED,
        event="rollout.promoted",
        function="noria.engine.actions:promote",
        fields=(RELEASE, ENVIRONMENT, ActionField("force", "Promote during a freeze, too.", FieldKind.FLAG, default=False)),
        codes="0; 1 refused; 2 no such release or environment",
        who=Who.PERSON,
        timed=True,
    ),
    Action(
        verb="rollback",
        command=("rollback",),
        line="Return an environment to an earlier release.",
        about="Return an environment to an earlier release, or end the rollout that is under way. The release that stops "
        "serving is barred, so that a second rollback goes one further back. The previous release is still loaded: returning "
        "to it takes milliseconds. An older one is loaded first.",
        examples=("noria rollback", "noria rollback --environment staging", "noria rollback --to v7"),
        answers=DELIVERED,
        event="environment.rolled_back",
        function="noria.engine.actions:roll_back",
        fields=(
            ENVIRONMENT,
            ActionField(
                "to", "The release to return to; by default the newest earlier one that is not barred.", metavar="RELEASE"
            ),
        ),
        codes="0; 1 refused, and the message says what is possible; 2 no such environment",
        while_broken=True,
        timed=True,
    ),
    Action(
        verb="hold",
        command=("rollout", "hold"),
        line="Hold the rollout at its step until somebody resumes it.",
        about="Hold the rollout at its step until somebody resumes it; evidence of harm still ends it.",
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
        line="Resume a held rollout.",
        about="Resume a held rollout at its step; its patience starts again.",
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
        line="End the rollout, and bar its release.",
        about="End the rollout: the champion takes all traffic. Its release is barred until a person lifts that.",
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
        line="Withdraw a release: bar it until a person lifts the bar.",
        about="Bar RELEASE (v3): no rollback goes to it, and no turn releases the same code and data again, until a person "
        "lifts the bar (`noria release lift`) or promotes it. Refused while it serves or is being rolled out.",
        examples=('noria release withdraw v3 --why "trained on the wrong labels"',),
        answers=("release", "barred", "text"),
        event="release.withdrawn",
        function="noria.engine.actions:withdraw",
        fields=(RELEASE, NEEDED_WHY),
        while_broken=True,
    ),
    Action(
        verb="accept",
        command=("release", "accept"),
        line="Accept what gates or policy left to a person.",
        about="Accept what is left to a person about RELEASE (v3): gates without enough data (`not_enough_data: hold`), or a "
        "change of policy (`policy_changes: approve`). Its rollout goes on by itself. Name and reason are shown with the release "
        "for ever. `noria rollout abort` declines it.",
        examples=('noria release accept v3 --why "the labels of this week come late"',),
        answers=("release", "accepted", "text"),
        event="release.accepted",
        function="noria.engine.actions:accept",
        fields=(RELEASE, NEEDED_WHY),
        codes="0; 1 nothing waits for a decision, or the release is barred; 2 no such release",
        who=Who.PERSON,
    ),
    Action(
        verb="approve_policy",
        command=("policy", "approve"),
        line="Approve what the project's folder changes of the policy in force.",
        about="Approve what noria.yaml and the contracts in the project's folder change of the policy in force, which is the "
        "champion's. From then on they judge in its place. Name and reason are shown with the release that comes of it.",
        examples=('noria policy approve --why "agreed in the review of 12 May"',),
        answers=("since", "changes", "text"),
        event="policy.approved",
        function="noria.engine.actions:approve_policy",
        fields=(NEEDED_WHY,),
        codes="0; 1 nothing differs, or it is approved already",
        who=Who.PERSON,
    ),
    Action(
        verb="lift",
        command=("release", "lift"),
        line="Lift the bar of a release.",
        about="Lift the bar of RELEASE (v3), which was withdrawn or rolled back: it may serve again, but does not yet.",
        examples=("noria release lift v3",),
        answers=("release", "was", "text"),
        event="release.lifted",
        function="noria.engine.actions:lift",
        fields=(RELEASE,),
    ),
    Action(
        verb="release_delivery",
        command=("data", "quarantine", "release"),
        line="Let a refused file in as it is.",
        about="Let the refused file of DELIVERY into its dataset as it is, whatever its contract says. It stays part of the "
        "dataset until another version of it is accepted; who let it in and why is shown with the delivery and with every "
        "snapshot that holds it. Of a file whose failing rows were dropped, the whole file takes the place of its good rows. "
        "Refused for a file that cannot be read with the dataset's other files, and for one of which a later version arrived.",
        examples=('noria data quarantine release delivery-0197a3c2e5f1-9c1b7e22 --why "the sensor was replaced in May"',),
        answers=("delivery", "name", "dataset", "accepted_as", "rows", "text"),
        event="data.released",
        function="noria.engine.actions:release_delivery",
        fields=(REFUSED, NEEDED_WHY),
        codes="0; 1 refused, and the message says why; 2 no such delivery",
        who=Who.PERSON,
        starts_turn=True,
    ),
    Action(
        verb="discard_delivery",
        command=("data", "quarantine", "discard"),
        line="Say that a refused file will not come again.",
        about="Say that the refused file of DELIVERY will not come again: the list says discarded, the same bytes are not judged "
        "again even when the contract changes, and `noria gc` deletes its rows without waiting for --keep. Another version of "
        "the file is judged as ever.",
        examples=('noria data quarantine discard delivery-0197a3c2e5f1-9c1b7e22 --why "a test export"',),
        answers=("delivery", "name", "dataset", "text"),
        event="data.discarded",
        function="noria.engine.actions:discard_delivery",
        fields=(REFUSED, NEEDED_WHY),
        codes="0; 1 refused, and the message says why; 2 no such delivery",
        who=Who.PERSON,
    ),
    Action(
        verb="trigger",
        command=("trigger",),
        line="Ask the daemon to start a turn.",
        about="Ask for a turn. The daemon starts it at once, or when `noria up` runs again; `noria run` runs one here instead.",
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
        about="Set the project clock of a replay to AT, in ISO 8601 (UTC without an offset). --speed says how many times as "
        "fast as the wall clock it runs. Schedules, patience and windows follow it.",
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
    """Returns the actions that are commands of their own, by command."""
    return {action.command[0]: action for action in ACTIONS.values() if len(action.command) == 1}


def below(group: str) -> dict[str, Action]:
    """Returns the actions that are commands of a group, by command: hold, resume and abort of `rollout`."""
    found = (action for action in ACTIONS.values() if len(action.command) > 1)
    return {action.command[-1]: action for action in found if action.command[-2] == group}
