"""How heatmaps are scored."""
