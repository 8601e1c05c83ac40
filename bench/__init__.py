"""Numbers, and how to get them again: each module runs by itself, starts what it needs, and prints one JSON line."""
