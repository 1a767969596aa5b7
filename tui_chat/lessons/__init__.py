"""The reports: each demonstration is one function from an engine and arguments to a value."""
