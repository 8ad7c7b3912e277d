"""Credentials in addresses: found, and taken out before anything prints, stores or sends an address."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Up to the last @ before a slash. A secret may hold slashes too: it follows a colon, after which a host has a port, and
# a bucket has none.
_USERINFO = re.compile(
    r"(?P<scheme>(?P<bucket>s3)|\w+)://(?P<userinfo>[^/\s?]*|[^/\s:@?]+:(?(bucket)|(?!\d+/))[^@\s]*)@"
)
_OPTION = re.compile(r"([?&](?:password|secret|token)[\w-]*=)[^&\s]+", re.IGNORECASE)
_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_VARIABLES = {"s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "http": _LOGIN, "https": _LOGIN}


def without_credentials(text: str) -> str:
    """`text` without the user, key and password of any address in it."""
    return _OPTION.sub(r"\1***", _USERINFO.sub(r"\g<scheme>://", text))


def credentials_in(text: str) -> dict[str, str]:
    """The credentials in addresses, as the variables of the environment that pyarrow and MLflow's client read.

    Empty where there are none, and where no variable would do, as for a database.
    """
    variables: dict[str, str] = {}
    for found in _USERINFO.finditer(text):
        user, _, secret = found["userinfo"].partition(":")
        if user and secret and found["scheme"] in _VARIABLES:
            variables |= zip(_VARIABLES[found["scheme"]], (unquote(user), unquote(secret)), strict=True)
    return variables
