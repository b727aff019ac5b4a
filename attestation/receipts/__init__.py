"""Receipts after the session: the file that keeps one, and verifying it offline, also long after."""
