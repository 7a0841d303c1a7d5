"""The tools that the suite calls."""

from __future__ import annotations

import json
from typing import Any

import anyio
import mcp_types as types
from contents import CONTENTS, DEFAULTS, EMPTY, ENUMS, NAME, SCHEMA_2020
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from questions import (
    ask,
    content_of,
    elicitation,
    elicited,
    is_modern,
    require,
    roots,
    sampled,
    sampling,
    seal,
    text,
    unseal,
)

PLAIN_TOOLS = """
    test_simple_text
    test_image_content
    test_audio_content
    test_embedded_resource
    test_multiple_content_types
    test_tool_with_logging
    test_logging_tool
    test_tool_with_progress
    test_error_handling
    test_elicitation_sep1034_defaults
    test_elicitation_sep1330_enums
    test_streaming_elicitation
    test_missing_capability
    test_trigger_tool_change
    test_trigger_prompt_change
    test_input_required_result_elicitation
    test_input_required_result_sampling
    test_input_required_result_list_roots
    test_input_required_result_request_state
    test_input_required_result_multiple_inputs
    test_input_required_result_multi_round
    test_input_required_result_tampered_state
    test_input_required_result_capabilities
"""
TOOLS: dict[str, dict[str, Any]] = dict.fromkeys(PLAIN_TOOLS.split(), EMPTY)
TOOLS["test_sampling"] = {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}
TOOLS["test_elicitation"] = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
TOOLS["json_schema_2020_12_tool"] = SCHEMA_2020
TOOLS["test_custom_headers"] = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "verbose": {"type": "boolean", "x-mcp-header": "Verbose"},
    },
}

BUS = InMemorySubscriptionBus()


async def on_call_tool(ctx: Any, params: Any) -> Any:
    name = params.name
    arguments = params.arguments or {}
    if name not in TOOLS:
        raise MCPError(-32602, f"Unknown tool: {name}")
    if name == "test_simple_text":
        return text("This is a simple text response for testing.")
    if name in ("test_image_content", "test_audio_content", "test_embedded_resource", "test_multiple_content_types"):
        return types.CallToolResult(content=CONTENTS[name])
    if name == "test_error_handling":
        return types.CallToolResult(
            content=[types.TextContent(type="text", text="This tool intentionally returns an error for testing")],
            is_error=True,
        )
    if name in ("test_tool_with_logging", "test_logging_tool"):
        for step in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.session.send_log_message("info", step, related_request_id=ctx.request_id)
            await anyio.sleep(0.05)
        return text("logged")
    if name == "test_tool_with_progress":
        for step in (0, 50, 100):
            await ctx.session.report_progress(step, 100)
            await anyio.sleep(0.05)
        return text("done")
    if name == "test_sampling":
        return await ask(ctx, params, "sampling", sampling(arguments["prompt"]), sampled)
    if name == "test_elicitation":
        schema = {
            "type": "object",
            "properties": {"username": {"type": "string"}, "email": {"type": "string"}},
            "required": ["username", "email"],
        }
        return await ask(
            ctx,
            params,
            "elicitation",
            elicitation(arguments["message"], schema),
            lambda answer: text(f"User response: action={answer.action}, content={json.dumps(answer.content)}"),
        )
    if name == "test_elicitation_sep1034_defaults":
        return await ask(ctx, params, "defaults", elicitation("Please review", DEFAULTS), elicited)
    if name == "test_elicitation_sep1330_enums":
        return await ask(ctx, params, "enums", elicitation("Please choose", ENUMS), elicited)
    if name == "test_missing_capability":
        if is_modern(ctx):
            require(ctx, sampling={})
            return text("has sampling")
        # The older protocol has no error for it: a server asks, and is refused.
        return await ask(ctx, params, "sampling", sampling("?"), sampled)
    if name == "test_trigger_tool_change":
        await BUS.publish(ToolsListChanged())
        await ctx.session.send_tool_list_changed()
        return text("tools changed")
    if name == "test_trigger_prompt_change":
        await BUS.publish(PromptsListChanged())
        await ctx.session.send_prompt_list_changed()
        return text("prompts changed")
    if name in ("test_custom_headers", "json_schema_2020_12_tool"):
        return text(json.dumps(arguments))
    return await input_required(ctx, name, params)


async def input_required(ctx: Any, name: str, params: Any) -> Any:
    answers = params.input_responses or {}
    state = params.request_state
    if name == "test_streaming_elicitation":
        await ctx.session.report_progress(0, 1)
        return await ask(ctx, params, "user_name", elicitation("What is your name?", NAME), elicited)
    if name == "test_input_required_result_elicitation":
        require(ctx, elicitation={})
        answer = answers.get("user_name")
        if answer is None or getattr(answer, "action", None) is None:
            return types.InputRequiredResult(input_requests={"user_name": elicitation("What is your name?", NAME)})
        return text(f"Hello, {(answer.content or {}).get('name')}!")
    if name == "test_input_required_result_sampling":
        return await ask(ctx, params, "capital_question", sampling("What is the capital of France?"), sampled)
    if name == "test_input_required_result_list_roots":
        return await ask(ctx, params, "client_roots", roots(), lambda answer: text(content_of(answer)))
    if name in ("test_input_required_result_request_state", "test_input_required_result_tampered_state"):
        if state is None:
            request = elicitation("Please confirm", {"type": "object", "properties": {"ok": {"type": "boolean"}}})
            return types.InputRequiredResult(input_requests={"confirm": request}, request_state=seal("confirm"))
        unseal(state)
        return text("state-ok")
    if name == "test_input_required_result_multiple_inputs":
        requests = {
            "user_name": elicitation("What is your name?", NAME),
            "greeting": sampling("Say hello"),
            "client_roots": roots(),
        }
        if state is None:
            return types.InputRequiredResult(input_requests=requests, request_state=seal("multiple"))
        unseal(state)
        missing = {key: request for key, request in requests.items() if key not in answers}
        if missing:
            return types.InputRequiredResult(input_requests=missing, request_state=seal("multiple"))
        return text("all inputs there")
    if name == "test_input_required_result_multi_round":
        step = unseal(state) if state is not None else "0"
        if step == "2" and answers:
            return text("all rounds done")
        following = str(int(step) + 1) if answers or step == "0" else step
        request = elicitation(f"Step {following}", NAME)
        return types.InputRequiredResult(input_requests={f"step{following}": request}, request_state=seal(following))
    has = ctx.session.client_capabilities
    requests = {}
    if getattr(has, "sampling", None) is not None:
        requests["sample"] = sampling("Say hello")
    if getattr(has, "elicitation", None) is not None:
        requests["elicit"] = elicitation("What is your name?", NAME)
    if requests and not answers:
        return types.InputRequiredResult(input_requests=requests)
    return text("done")


async def on_list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=name, input_schema=schema) for name, schema in TOOLS.items()]
    )
