"""Bad days with real processes: the hub, its MongoDB and its workers are killed, stopped and cut off while tasks flow.

A round is a world of its own that a seed drives: which faults, on whom, how long, and when on the way. At its end the
database, what users and viewers were told, and what workers did must agree. Moments are real, so the same seed is the
same plan, not the same day to the last message; for that see `tests.simulation`.
"""
