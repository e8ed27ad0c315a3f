"""A tag that is named like the watched branch hides none of its commits."""

import time

from noria.pipeline.trigger_store import TriggerStore

YAML = """
project: tagged
data: {{rows: {{source: "data/*.csv", settle: 50ms}}}}
steps: {{one: {{cmd: "cat word.txt > out.txt", deps: [word.txt], outs: [out.txt]}}}}
git: {{repository: {remote}, branch: release, every: 100ms}}
"""


def walk(case):
    from noria import config
    from noria.engine import assembly
    from noria.engine.trigger_watcher import TriggerWatcher

    work, remote = case.home / "work", case.home / "remote.git"
    case.run("git", "init", "-q", "--bare", str(remote))
    case.write("work/noria.yaml", YAML.format(remote=remote))
    case.write("work/word.txt", "a\n")
    case.run("git", "init", "-q", "-b", "release", cwd=work)
    for word in ("a", "b"):
        case.write("work/word.txt", f"{word}\n")
        case.run("git", "add", "-A", cwd=work)
        case.run("git", "commit", "-q", "-m", word, cwd=work)
    case.run("git", "push", "-q", str(remote), "release", cwd=work)
    home = case.home / "home"
    home.mkdir()
    case.run("git", "clone", "-q", "-b", "release", str(remote), str(home / "p"))
    context = assembly.assemble(home / "p")
    watcher, project = TriggerWatcher(context), config.load(home / "p")
    assert watcher.commits(project) == 1
    case.run("git", "tag", "release", "HEAD~1", cwd=work)
    case.run("git", "push", "-q", str(remote), "refs/tags/release", cwd=work)
    case.write("work/word.txt", "c\n")
    case.run("git", "commit", "-qam", "c", cwd=work)
    case.run("git", "push", "-q", str(remote), "refs/heads/release:refs/heads/release", cwd=work)
    newest = case.run("git", "rev-parse", "HEAD", cwd=work).strip()
    deadline = time.monotonic() + 200
    while not watcher.commits(project):
        assert time.monotonic() < deadline, "commit c is never taken"
    assert TriggerStore(context.ledger, "tagged").newest_commit()[0] == newest
    context.ledger.close()
