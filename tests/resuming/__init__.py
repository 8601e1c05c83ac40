"""Uploads in bad times: a hub in a process of its own that is killed, lines that break, disks that say no."""
