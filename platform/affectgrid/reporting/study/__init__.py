"""The pages of a study: its tables, its confirmation, its figures and its HTML report."""
