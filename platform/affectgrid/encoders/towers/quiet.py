"""Loading without the libraries' log output: the loaders here check what they would warn about, and raise."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip, which logs on the root logger, and transformers' progress bars, for the block's duration."""
    root, handler = logging.getLogger(), logging.NullHandler()
    showed_bars = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    root.addFilter(_nothing)
    root.addHandler(handler)  # logging.warning() on a root without handlers would install one for good
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(handler)
        transformers_logging.set_verbosity(verbosity)
        if showed_bars:
            transformers_logging.enable_progress_bar()


def _nothing(record: logging.LogRecord) -> bool:
    return False
