"""What adding a job gives back."""

class Job:
    id: str
    name: str
    def remove(self) -> None: ...
