"""The command line; the only part that knows Hydra."""

from pathlib import Path

from distill import configs

CONFIGS = Path(configs.__file__).parent
