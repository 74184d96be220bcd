"""What keeps the gateway from starting, said so that the operator can mend it."""


class StartError(Exception):
    """Base of what listeners, state directory and embedded broker raise.

    `text` says what is wrong, with the key, the value or the place; `fix` what to do about it, as a command
    where there is one. Together they are the message.
    """

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(f"{text}\n  fix: {fix}")
        self.place: str | None = None
        self.text = text
        self.fix = fix
