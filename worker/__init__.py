"""The other end of the wire: the SDK for interface services and the reference service.

Never imports Tornado or a database driver; of the hub it knows the message types alone.
"""
