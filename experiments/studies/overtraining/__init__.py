"""Heat maps under over-training: jobs, pictures and tables."""
