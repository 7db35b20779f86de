"""Drop boxes: handing values in to a sealed scope without opening it, and taking them in there."""
