"""Who gets in, and who may start work."""
