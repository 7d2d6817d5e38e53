"""Suites: which cells judge a set, and what their rows say together."""
