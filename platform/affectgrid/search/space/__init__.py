"""What may be tried: a search-space file, checked, with everything that follows from it before a trial runs."""

from affectgrid.search.space.json_schema import schema_text
from affectgrid.search.space.reading import load_space, parse_space
from affectgrid.search.space.schema import SearchSpace

__all__ = ["SearchSpace", "load_space", "parse_space", "schema_text"]
