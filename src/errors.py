"""The exceptions whose message, or whose code, is the whole report."""


class InputError(ValueError):
    """A mistake in what the user typed or pointed to: given, allowed, what to type."""


class StoppedError(SystemExit):
    """A signal has ended the run, which has saved and said how to go on."""
