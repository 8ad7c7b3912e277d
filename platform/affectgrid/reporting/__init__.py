"""Everything that is shown: `figures`, `tables`, `html` pages, `progress` on a terminal; `study/` for a study."""
