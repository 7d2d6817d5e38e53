"""Trained networks kept on disk, and what they say of images."""
