"""The fixture server of the official conformance suite, on the official SDK, over stdio, in both eras.

Tool, prompt and resource names are the suite's. Legacy connections are asked
with server requests, modern ones with input requests, as each era has it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import struct
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

warnings.simplefilter("ignore")

KEY = secrets.token_bytes(32)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF"
    + struct.pack("<I", 38)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    + b"data\2\0\0\0\0\0"
).decode()
SCHEMA_2020 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
EMPTY = {"type": "object", "properties": {}}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

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
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {
            "type": "string",
            "oneOf": [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]},
        },
    },
    "required": [],
}


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
    """Let a handler of the modern era ask a legacy client too: by requests in the middle of the call."""

    async def handle(ctx: Any, params: Any) -> Any:
        result = await handler(ctx, params)
        while isinstance(result, types.InputRequiredResult) and not is_modern(ctx):
            answers = {
                key: await ctx.session.send_request(request, type_of(request))
                for key, request in (result.input_requests or {}).items()
            }
            more = {"input_responses": answers, "request_state": result.request_state}
            result = await handler(ctx, params.model_copy(update=more))
        return result

    return handle


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
        require(ctx, sampling={})
        return text("has sampling")
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


def embedded(uri: str, words: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        type="resource", resource=types.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    )


IMAGE = types.ImageContent(type="image", data=PNG, mime_type="image/png")
CONTENTS: dict[str, list[Any]] = {
    "test_image_content": [IMAGE],
    "test_audio_content": [types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")],
    "test_embedded_resource": [embedded("test://embedded-resource", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        types.TextContent(type="text", text="Multiple content types test:"),
        IMAGE,
        types.EmbeddedResource(
            type="resource",
            resource=types.TextResourceContents(
                uri="test://mixed-content-resource",
                mime_type="application/json",
                text='{"test":"data","value":123}',
            ),
        ),
    ],
}


async def on_list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=name, input_schema=schema) for name, schema in TOOLS.items()]
    )


PROMPTS: dict[str, list[types.PromptArgument]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": [
        types.PromptArgument(name="arg1", description="first", required=True),
        types.PromptArgument(name="arg2", description="second", required=True),
    ],
    "test_prompt_with_embedded_resource": [types.PromptArgument(name="resourceUri", required=True)],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


async def on_list_prompts(ctx: Any, params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[types.Prompt(name=name, description=name, arguments=given) for name, given in PROMPTS.items()]
    )


def says(content: Any) -> types.PromptMessage:
    if isinstance(content, str):
        content = types.TextContent(type="text", text=content)
    return types.PromptMessage(role="user", content=content)


async def on_get_prompt(ctx: Any, params: Any) -> Any:
    arguments = params.arguments or {}
    if params.name == "test_simple_prompt":
        messages = [says("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        messages = [says(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")]
    elif params.name == "test_prompt_with_embedded_resource":
        messages = [
            says(embedded(arguments["resourceUri"], "Embedded resource content for testing.")),
            says("Please process the embedded resource above."),
        ]
    elif params.name == "test_prompt_with_image":
        messages = [says(IMAGE), says("Please analyze the image above.")]
    elif params.name == "test_input_required_result_prompt":
        schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
        return await ask(
            ctx,
            params,
            "user_context",
            elicitation("What context should the prompt use?", schema),
            lambda answer: types.GetPromptResult(messages=[says(f"Context: {json.dumps(answer.content)}")]),
        )
    else:
        raise MCPError(-32602, f"Unknown prompt: {params.name}")
    return types.GetPromptResult(messages=messages)


async def on_list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri="test://static-text", name="static-text", mime_type="text/plain"),
            types.Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"),
            types.Resource(uri="test://watched-resource", name="watched-resource", mime_type="text/plain"),
        ]
    )


async def on_list_templates(ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def on_read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents: Any
    if uri == "test://static-text":
        words = "This is the content of the static text resource."
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=words)
    elif uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == "test://watched-resource":
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text="watched")
    elif uri.startswith("test://template/") and uri.endswith("/data"):
        number = uri.removeprefix("test://template/").removesuffix("/data")
        words = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=words)
    else:
        raise MCPError(-32602 if is_modern(ctx) else -32002, "Resource not found", {"uri": uri})
    return types.ReadResourceResult(contents=[contents])


async def on_completion(ctx: Any, params: Any) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=["paris", "park", "party"], total=3, has_more=False))


async def nothing(ctx: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


SERVER: Any = Server(
    "conformance",
    version="1.0",
    on_list_tools=on_list_tools,
    on_call_tool=asking(on_call_tool),
    on_list_prompts=on_list_prompts,
    on_get_prompt=asking(on_get_prompt),
    on_list_resources=on_list_resources,
    on_list_resource_templates=on_list_templates,
    on_read_resource=on_read_resource,
    on_subscribe_resource=nothing,
    on_unsubscribe_resource=nothing,
    on_subscriptions_listen=ListenHandler(BUS),
    on_completion=on_completion,
    on_set_logging_level=nothing,
)


async def refuse_handshake(ctx: Any, call_next: Any) -> Any:
    """A server of the modern era only."""
    if ctx.method == "initialize":
        raise MCPError(-32601, "Method not found")
    return await call_next(ctx)


async def main(era: str) -> None:
    """`era`: both, legacy or modern."""
    changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
    options = SERVER.create_initialization_options(changes)
    async with stdio_server() as (read, write):
        if era == "legacy":
            await serve_loop(SERVER, read, write, lifespan_state={}, init_options=options)
            return
        if era == "modern":
            SERVER.middleware.append(refuse_handshake)
        await SERVER.run(read, write, options)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "both")
