"""A secrets vault that a program can import."""
