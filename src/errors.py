"""The one exception whose message is the whole report."""


class InputError(ValueError):
    """A mistake in what the user typed or pointed to: given, allowed, what to type."""
