"""Fresh students on a set, under a protocol."""
