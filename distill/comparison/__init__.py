"""Comparison: finished rows side by side, with tests, ranks, verdicts, tables, figures and citations."""
