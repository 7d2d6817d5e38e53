"""Training and testing of networks, experts, teachers and students alike."""
