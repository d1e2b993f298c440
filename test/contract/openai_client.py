"""What a Python program does with the package `openai`, as it is installed. Says what it sees, one JSON value a line."""

import json
import sys

import openai
from openai import OpenAI


def say(**seen):
    print(json.dumps(seen), flush=True)


def client(url, key="any", **more):
    return OpenAI(base_url=f"{url}/v1", api_key=key, **more)


def seen(event):
    say(event=event.type, number=event.sequence_number, delta=getattr(event, "delta", None))


def stream(url):
    """The helper, to the final response."""
    with client(url).responses.stream(model="coder", input="hello") as events:
        for event in events:
            seen(event)
        final = events.get_final_response()
    say(text=final.output_text, types=[item.type for item in final.output], total=final.usage.total_tokens)


def resume(url, elsewhere):
    """A stream that breaks, and goes on at another replica."""
    last, response = -1, None
    try:
        for event in client(url).responses.create(model="coder", input="hello", stream=True):
            response = response or event.response.id
            last = event.sequence_number
            seen(event)
    except Exception as error:
        say(broke=type(error).__name__)
    for event in client(elsewhere).responses.retrieve(response, stream=True, starting_after=last):
        seen(event)
    with client(elsewhere).responses.stream(response_id=response, starting_after=last) as events:
        numbers = [event.sequence_number for event in events]
        final = events.get_final_response()
    say(text=final.output_text, first=numbers[0], last=numbers[-1])


def ends(url):
    """Three turns: one that fails in a stream, one that fails in a plain answer, one that is cancelled by somebody."""
    try:
        for _ in client(url).responses.create(model="coder", input="hello", stream=True):
            pass
    except openai.APIError as error:
        say(error=type(error).__name__, code=error.code, type=error.type, message=error.message)
    failed = client(url).responses.create(model="coder", input="hello")
    say(status=failed.status, code=failed.error.code, text=failed.output_text)
    queued = client(url).responses.create(model="coder", input="hello", background=True)
    cancelled = client(url).responses.cancel(queued.id)
    say(status=cancelled.status, reason=cancelled.incomplete_details.reason)


def chat(url):
    """Chat Completions: a stream with its usage, then one that fails."""
    messages = [{"role": "user", "content": "hello"}]
    ask = {"model": "coder", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    text, usage, reason = "", None, None
    for chunk in client(url).chat.completions.create(**ask):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    say(text=text, total=usage.total_tokens, reason=reason)
    try:
        for _ in client(url).chat.completions.create(**ask):
            pass
    except openai.APIError as error:
        say(error=type(error).__name__, code=error.code, type=error.type)


def post(url):
    """A plain answer, whatever happens to the replica that was asked."""
    say(text=client(url).responses.create(model="coder", input="hello").output_text)


def errors(url):
    """What is refused, and as what."""
    ask = {"model": "coder", "input": "hello", "background": True}
    alice = client(url, "key-of-alice-1", max_retries=0)
    conversation = alice.conversations.create().id
    alice.responses.create(**ask, conversation=conversation)
    tries = {
        "key": lambda: client(url, "wrong").responses.create(**ask),
        "tools": lambda: alice.responses.create(**ask, tools=[{"type": "shell"}]),
        "model": lambda: alice.responses.create(**{**ask, "model": "nobody-has-it"}),
        "id": lambda: alice.responses.retrieve("resp_x"),
        "queue": lambda: alice.responses.create(**ask, conversation=conversation),
    }
    for name, refused in tries.items():
        try:
            refused()
        except openai.APIStatusError as error:
            say(tried=name, error=type(error).__name__, code=error.code, request=bool(error.request_id))


def outage(url):
    """Redis is away: the error of a client that does not retry, then a client that does."""
    try:
        client(url, max_retries=0).responses.create(model="coder", input="hello")
    except openai.APIStatusError as error:
        say(error=type(error).__name__, code=error.code)
    say(text=client(url, max_retries=5).responses.create(model="coder", input="hello").output_text)


globals()[sys.argv[1]](*sys.argv[2:])
