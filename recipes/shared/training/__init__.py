"""The networks of the recipes, their training, and what is measured beside a monitor."""
