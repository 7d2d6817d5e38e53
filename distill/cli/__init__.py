"""The command line; the only part that knows Hydra."""

from pathlib import Path

CONFIGS = Path(__file__).parent.parent.parent / "configs"
