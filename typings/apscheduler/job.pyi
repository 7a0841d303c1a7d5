"""A scheduled job."""

class Job:
    id: str
    name: str
    def remove(self) -> None: ...
