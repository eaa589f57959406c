"""The repairs behind the published Tables 3 to 7: subjects, rows, jobs, and the tables drawn."""
