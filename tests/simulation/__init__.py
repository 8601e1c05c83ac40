"""Bad days without end: the real core and runner in a simulated world that a seed drives.

Time, network, database, workers, users and admins are simulated and do everything that real ones do on a bad day;
the hub's own code is what runs in production. The same seed is the same day, to the last message.
"""
