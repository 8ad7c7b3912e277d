"""Reading video, sound and faces."""
