"""The prompts that the suite gets."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types
from contents import IMAGE, embedded
from mcp.shared.exceptions import MCPError
from questions import ask, elicitation

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
