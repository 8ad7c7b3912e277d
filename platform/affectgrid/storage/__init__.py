"""Everything that is written goes through here: atomic files on a disk, and places in an object store."""

from affectgrid.storage.files import append, flush, replace_directory, to_json, write_atomic, write_json
from affectgrid.storage.places import Entry, Storage, cache_folder, is_uri, without_credentials, write_errors
from affectgrid.storage.staging import Staged, show_places, staged

__all__ = [
    "Entry",
    "Staged",
    "Storage",
    "append",
    "cache_folder",
    "flush",
    "is_uri",
    "replace_directory",
    "show_places",
    "staged",
    "to_json",
    "without_credentials",
    "write_atomic",
    "write_errors",
    "write_json",
]
