"""The study of asynchrony: searches whose trials last as long as their nets are large."""
