"""The few names of APScheduler 3.11 that the agent uses."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from apscheduler.job import Job

class AsyncIOScheduler:
    def __init__(self, *, job_defaults: Mapping[str, Any] = ..., timezone: str = ...) -> None: ...
    # The options of the trigger, such as `seconds` of an interval, are checked when a job is added.
    def add_job(
        self,
        func: Callable[..., Awaitable[object] | object],
        trigger: Literal["interval", "cron", "date"],
        args: Sequence[Any] = ...,
        kwargs: Mapping[str, Any] = ...,
        id: str = ...,
        name: str = ...,
        misfire_grace_time: int | None = ...,
        coalesce: bool = ...,
        max_instances: int = ...,
        replace_existing: bool = ...,
        **trigger_args: Any,
    ) -> Job: ...
    def remove_job(self, job_id: str) -> None: ...
    def start(self, paused: bool = ...) -> None: ...
    def shutdown(self, wait: bool = ...) -> None: ...
