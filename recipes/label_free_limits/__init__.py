"""The runs of `label_free_limits` and what they show."""
