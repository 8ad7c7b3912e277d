"""Every write goes through here: atomic files on a disk, and objects in an object store."""

from affectgrid.storage.files import append, flush, replace_directory, to_json, write_atomic, write_json
from affectgrid.storage.places import Entry, Storage, cache_folder, is_uri, write_errors
from affectgrid.storage.staging import Staged, show_places, staged
from affectgrid.storage.working_copy import WorkingCopy, fetched, results

__all__ = [
    "Entry",
    "Staged",
    "Storage",
    "WorkingCopy",
    "append",
    "cache_folder",
    "fetched",
    "flush",
    "is_uri",
    "replace_directory",
    "results",
    "show_places",
    "staged",
    "to_json",
    "write_atomic",
    "write_errors",
    "write_json",
]
