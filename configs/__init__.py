"""Everything that a run can be told: one file a choice, one folder a group; installed as ``distill.configs``."""
