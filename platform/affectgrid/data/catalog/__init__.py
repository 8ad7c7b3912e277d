"""From the folders of a data set to its tracks: `tree` lists, `layout` finds, `formats` make a `Catalog`."""

from affectgrid.data.catalog.formats.aff_wild2 import is_aff_wild2, read_aff_wild2
from affectgrid.data.catalog.formats.choice import format_names, read_catalog
from affectgrid.data.catalog.layout import Labels, SplitName
from affectgrid.data.catalog.reading import read_folder
from affectgrid.data.catalog.tracks import Catalog, Track, raw_video

__all__ = [
    "Catalog",
    "Labels",
    "SplitName",
    "Track",
    "format_names",
    "is_aff_wild2",
    "raw_video",
    "read_aff_wild2",
    "read_catalog",
    "read_folder",
]
