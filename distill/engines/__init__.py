"""Engines: who carries out units of work beside the process that asks for them."""
