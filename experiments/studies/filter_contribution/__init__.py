"""Filter contribution and important regions: jobs, pictures and tables."""
