"""Real images that rules pick: what every learned set is held against."""
