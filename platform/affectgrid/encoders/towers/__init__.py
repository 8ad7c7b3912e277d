"""Image towers, text towers and whole CLIP models, each by the library that knows it."""
