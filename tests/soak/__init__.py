"""Nothing is ever lost: long tests that try to lose something, beside the quick ones of tests/unit.

    python -m tests.soak.kills --kills 200 --seed 0    kill -9 of a run's process, the worker, the page and the starter
                                                       at random moments
    python -m tests.soak.power_cut                     the disk as it may look after the power went, at every flush
    python -m tests.soak.full_disk                     "no space left" at every single write
    python -m tests.soak.cancels                       how long a cancelled run takes to end, in every phase

Each prints a table and ends with code 1 where anything was lost. What they found is in docs/reliability.md. Short forms
of the first three are part of the test suite (tests/unit/test_soak.py).

A tiny model (4 blocks, 32 wide) and sixty bundled digits make every run take seconds; all else is the real thing: the
worker, the queue, ``python -m engine run``, ``python -m app``.

``python -m tests.soak.load`` is of another kind: many browser sessions at once while a run trains (docs/scaling.md).
"""
