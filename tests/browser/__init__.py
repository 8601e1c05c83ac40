"""The page in a real Chromium, against a real hub with its local worker."""
