"""Training and bundling of the miniatures; code that runs released weights does not import it."""
