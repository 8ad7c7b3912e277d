"""What a study may try: search-space files, their schema and checks."""
