"""What `sensitivity_n` measures and writes."""
