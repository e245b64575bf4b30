"""What several recipes use."""
