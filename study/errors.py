"""The one exception that is the user's to mend."""


class UserError(Exception):
    """A mistake in what the user asked for: one line, naming offender and remedy.

    The command line prints it and exits with code 2; a library caller may catch it.
    """
