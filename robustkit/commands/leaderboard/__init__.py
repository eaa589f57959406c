"""A fixed suite of transfer attacks over given sources and targets: who is better than whom."""
