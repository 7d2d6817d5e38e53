"""Methods that match trajectories, gradients or distributions."""
