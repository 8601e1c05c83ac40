"""Remembers, and decides nothing: records in MongoDB, bytes in files."""
