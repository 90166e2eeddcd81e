"""What the command line says when it cannot go on."""


class CommandError(Exception):
    """
    A mistake that the user can mend, told in one line, without a traceback.

    :param message: what is wrong and what was expected
    :param status: the exit status of the command: 2 for a wrong argument, 1 for anything that went wrong later
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def one_line(error: BaseException) -> str:
    """
    :param error: any exception
    :return: its kind and its message, on one line; a CommandError's message says it all
    """
    message = " ".join(str(error).split())
    if isinstance(error, CommandError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
