"""The checks of the formulas: `cloud` (machines that come and go), `encoding` and `search`, event by event; `courses`
of a whole plan."""
