"""How a client is asked for something in the middle of a call, as its era has it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError

# Of this process alone, as the SDK's own default is.
KEY = secrets.token_bytes(32)


def text(words: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)])


def is_modern(ctx: Any) -> bool:
    return ctx.protocol_version == "2026-07-28"


def elicitation(message: str, schema: dict[str, Any]) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=100))


def roots() -> types.ListRootsRequest:
    return types.ListRootsRequest()


def require(ctx: Any, **capabilities: Any) -> None:
    has = ctx.session.client_capabilities
    for name in capabilities:
        if getattr(has, name, None) is None:
            raise MCPError(-32021, f"the client lacks {name}", {"requiredCapabilities": {name: {}}})


def seal(step: str) -> str:
    return step + "." + hmac.digest(KEY, step.encode(), "sha256").hex()


def unseal(state: str | None) -> str:
    step, _, signature = (state or "").rpartition(".")
    if not hmac.compare_digest(hmac.digest(KEY, step.encode(), hashlib.sha256).hex(), signature):
        raise MCPError(-32602, "requestState was changed")
    return step


def content_of(answer: Any) -> str:
    return json.dumps(answer.model_dump(mode="json", by_alias=True, exclude_none=True) if answer else None)


async def ask(ctx: Any, params: Any, key: str, request: Any, then: Any) -> Any:
    """Ask the client as its era has it; `then` makes the result from the answer."""
    if not is_modern(ctx):
        return then(await ctx.session.send_request(request, type_of(request)))
    answer = (params.input_responses or {}).get(key)
    if answer is None:
        return types.InputRequiredResult(input_requests={key: request})
    return then(answer)


def type_of(request: Any) -> Any:
    return {
        "elicitation/create": types.ElicitResult,
        "sampling/createMessage": types.CreateMessageResult,
        "roots/list": types.ListRootsResult,
    }[request.method]


def elicited(answer: Any) -> types.CallToolResult:
    return text(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")


def sampled(answer: Any) -> types.CallToolResult:
    return text(f"LLM response: {content_of(answer)}")


def asking(handler: Any) -> Any:
    """Let a handler of the modern era ask a legacy client too: by requests in the middle of the call, all at once.

    What the client can't be asked is left out, as long as it can be asked anything.
    """

    async def handle(ctx: Any, params: Any) -> Any:
        result = await handler(ctx, params)
        while isinstance(result, types.InputRequiredResult) and not is_modern(ctx):
            answers: dict[str, Any] = {}
            refusals: list[MCPError] = []

            async def ask_one(key: str, request: Any, answers: Any = answers, refusals: Any = refusals) -> None:
                try:
                    answers[key] = await ctx.session.send_request(request, type_of(request))
                except MCPError as error:
                    refusals.append(error)

            async with anyio.create_task_group() as group:
                for key, request in (result.input_requests or {}).items():
                    group.start_soon(ask_one, key, request)
            if not answers:
                raise refusals[0]
            more = {"input_responses": answers, "request_state": result.request_state}
            result = await handler(ctx, params.model_copy(update=more))
        return result

    return handle
