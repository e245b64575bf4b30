"""What `series_progress` writes."""
