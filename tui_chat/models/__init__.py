"""Where models come from, and what a model file says of itself."""
