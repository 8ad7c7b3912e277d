"""From the folders of a data set to its tracks: `tree` lists, `layout` finds, `reading` makes a `Catalog`."""

from affectgrid.data.catalog.layout import Labels, SplitName
from affectgrid.data.catalog.reading import is_aff_wild2, read_aff_wild2, read_folder
from affectgrid.data.catalog.tracks import Catalog, Track, raw_video

__all__ = [
    "Catalog",
    "Labels",
    "SplitName",
    "Track",
    "is_aff_wild2",
    "raw_video",
    "read_aff_wild2",
    "read_folder",
]
