"""How heatmaps are compared: by their areas, their complexity, and as pictures."""
