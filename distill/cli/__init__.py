"""The command line: `distill`, or `python run.py`."""
