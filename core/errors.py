"""The errors that users see. Each message is a sentence or two: what went wrong, in which file or frame, what to do."""


class UnderstudyError(Exception):
    """Something that the user can put right; the message is all they are shown."""

    exit_code = 1


class UsageError(UnderstudyError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class Cancelled(UnderstudyError):
    """The user asked the job to stop."""

    exit_code = 3
