"""Side-by-side measurements: the same work natively, in views, and under other programs of the kind.

    places.py       what is worked on: a tree, a repository, the programs of micro/; one temporary directory
    columns.py      the ways to run a command: native, three views, and the peers that are installed
    run.py          one run of one command: elapsed time, and CPU of all that took part, supervisor included
    measurements/   the rows, a file for each kind of them
    table.py        what is printed

`python bench` runs everything; `--help` says what can be left out. Runs are interleaved: one in each column,
then again, so that what else the machine does hits all columns alike.
"""
