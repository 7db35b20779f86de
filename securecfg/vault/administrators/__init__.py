"""What administrators of sealed scopes do: hand over, sign for each other, introduce others, and break glass."""
