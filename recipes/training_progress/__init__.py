"""What `training_progress` writes."""
