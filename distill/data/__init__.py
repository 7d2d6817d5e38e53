"""Real images: read, split and preprocessed once."""
