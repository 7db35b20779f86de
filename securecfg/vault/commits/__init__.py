"""How changes become durable: publications, large changes made ready first, changes of several parts, the sweep."""
