"""Runs: what one configuration names, carried out; each arrow of the line is a file."""
