"""Threads that read the same kind of record for the first time at the same moment.

The daemon's parts begin together, and each reads routes and rollouts first thing. msgspec prepares a class when it is first read;
up to 0.22 another thread could meet it half prepared, and the process ended without a word (a read at address 0).
"""

from __future__ import annotations

import subprocess
import sys

ROUNDS = 60  # of 0.22, the first few ended it, on each of two machines
READERS = f"""
import sys, threading, types
import msgspec

sys.setswitchinterval(1e-6)
for number in range({ROUNDS}):
    made = types.ModuleType(f"records_{{number}}")
    sys.modules[made.__name__] = made
    text = "from __future__ import annotations\\nimport msgspec\\n"
    for depth in range(12):
        inner = f"    inner: R{{depth - 1}} | None = None\\n" if depth else ""
        fields = "".join(f"    f{{at}}: int = 0\\n" for at in range(15))
        text += f"class R{{depth}}(msgspec.Struct, frozen=True):\\n{{fields}}{{inner}}"
    exec(text, made.__dict__)
    content = {{"f1": 3}}
    for depth in range(1, 12):
        content = {{"f1": 3, "inner": content}}
    together = threading.Barrier(8)

    def read():
        together.wait()
        for _ in range(20):
            assert msgspec.convert(content, made.R11).f1 == 3

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("all read")
"""


def test_no_thread_meets_a_record_that_another_prepares() -> None:
    done = subprocess.run([sys.executable, "-c", READERS], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "all read"), done.stderr
