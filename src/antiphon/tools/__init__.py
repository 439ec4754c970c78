"""Tools: what the model sees of them and the items they become."""
