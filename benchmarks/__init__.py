"""`make bench`: Noria measured beside its peers, on one machine, in one run.

clock.py        starts a command and takes its time, its processors' time and its memory
table.py        rows, sections, and the page that they make
peers.py        the peers' own environments, under .bench/
wheel.py        a turn of the wheel, and how fast the command line answers
chain.py        200 steps in a row, and 100 beside each other
snapshot.py     one large file, many small ones
contracts.py    checks of a data file, and a file that is larger than the memory that they may take
experiments.py  points of a metric, and runs that are searched
run.py          which of these, in what order, within how much time
"""
