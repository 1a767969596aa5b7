"""The widgets: data comes down by constructor and attributes, news goes up by messages."""
