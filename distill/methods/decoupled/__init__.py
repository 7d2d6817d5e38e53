"""Methods that recover or compose images with trained teachers."""
