"""What published cells measured here: one file a cell, written by `distill result`; installed as ``distill.results``."""
