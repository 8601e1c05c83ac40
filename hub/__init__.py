"""What is true and what happens next.

Standard library and message types only; no I/O, no clock of its own; only the runner and its duties await.
"""

VERSION = "0.1.0"
