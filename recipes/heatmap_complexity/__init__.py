"""How complex heatmaps are: Fig. 5 of the paper."""
