"""The study of strategies: searches of equal cost, and what their nets are worth when retrained."""
