"""Methods that learn from a network which was never told a class."""
