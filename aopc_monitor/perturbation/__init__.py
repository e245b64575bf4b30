"""What is perturbed, and by what it is replaced."""
