#!/usr/bin/env python
"""python run.py [task=experts|distill|evaluate|all|report|list] ... : the whole line from the command line; see --help."""

from distill.cli.main import main

if __name__ == "__main__":
    main()
