"""What is shown of a study: tables, what its confirmation says, figures and the HTML report."""
