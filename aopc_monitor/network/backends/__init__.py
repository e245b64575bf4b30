"""What carries out the forwards that only give scores: torch as it is, or something faster."""
