"""Distributed experiments on valence-arousal estimation from video.

Importing this package loads nothing else. Its packages name what is public in their own `__init__`; CONTRIBUTING.md
says what each owns. A program of one's own usually starts with `training.loop.fit`, `training.inference.package` or
`distributed.encode.run`.
"""

__version__ = "0.1.0"
