"""What students train on."""
