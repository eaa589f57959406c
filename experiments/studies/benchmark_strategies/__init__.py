"""The study of strategies with power: hundreds of searches on the benchmark at equal cost."""
