"""What people look at: figures, tables, pages, and progress on a terminal. `study/` shows a study's results."""
