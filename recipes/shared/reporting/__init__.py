"""What a run keeps and tells."""
