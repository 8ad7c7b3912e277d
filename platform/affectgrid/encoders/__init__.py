"""Frozen encoders: `visual.load_visual` for images and texts, `audio.load_audio` for sound; `tiny` for tests."""
