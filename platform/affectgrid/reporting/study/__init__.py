"""The results of a study: `tables`, `confirmation`, `figures`, and the HTML page of `report`."""
