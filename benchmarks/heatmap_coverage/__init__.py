"""Which heatmaps work on which networks of torchvision, timm and transformers."""
