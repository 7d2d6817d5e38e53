"""Networks: students, experts and teachers alike."""
