"""What a monitor shows: pictures and the layout of the dashboard."""
