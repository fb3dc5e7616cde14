"""Calls the inference API with OpenAI's own client for Python, once for each field, and checks the answers.

Usage: OPENAI_BASE_URL=... OPENAI_API_KEY=... python scripts/conformance/openai_client.py
Needs the package openai. Exits with 1 if a check fails.
"""

import asyncio
import math
import sys

import openai

MODEL = "flexmesh"
MESSAGES = [{"role": "user", "content": "Hello"}]
client = openai.OpenAI(timeout=300)
checks = []


def check(function):
    checks.append(function)
    return function


def chat(**more):
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=5, **more)


def complete(**more):
    return client.completions.create(**{"model": MODEL, "prompt": "The cell", "max_tokens": 5, **more})


@check
def models():
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids
    assert all(client.models.retrieve(one).id == one for one in ids)


@check
def chat_with_usage_details():
    answer = chat()
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer._request_id.startswith("req-")
    assert answer.system_fingerprint.startswith("sha256:")


@check
def developer_and_content_parts():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    client.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=2)


@check
def seed():
    texts = {chat(seed=7, temperature=1).choices[0].message.content for _ in range(2)}
    assert len(texts) == 1
    seeds = {chat(temperature=1).flexmesh["seed"] for _ in range(2)}
    assert len(seeds) == 2


@check
def several_choices():
    answer = chat(n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1


@check
def chat_logprobs():
    answer = chat(logprobs=True, top_logprobs=5, temperature=0)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert b"".join(bytes(token.bytes or []) for token in content).decode() == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 5 and token.top_logprobs[0].logprob == token.logprob


@check
def chat_stream():
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=5, n=2, logprobs=True, stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    assert chunks[-1].usage.completion_tokens == 10 and chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    tokens = [t for chunk in chunks for c in chunk.choices if c.logprobs for t in c.logprobs.content]
    assert len(tokens) == 10


@check
def chat_stream_helper():
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, stop=["\n\n\n"]) as stream:
        try:
            for _ in stream:
                pass
            assert stream.get_final_completion().choices[0].message.role == "assistant"
        except openai.LengthFinishReasonError:
            pass


@check
def stop():
    whole = complete(temperature=0, max_tokens=8).choices[0].text
    cut = complete(temperature=0, max_tokens=8, stop=[whole[3:6]]).choices[0]
    assert cut.text == whole[: whole.index(whole[3:6])] and cut.finish_reason == "stop"


@check
def logit_bias_and_penalties():
    plain = complete(temperature=0, logprobs=1, max_tokens=1).choices[0]
    first = plain.logprobs.tokens[0]
    ids = tokenize(first)
    banned = complete(temperature=0, logprobs=1, max_tokens=1, logit_bias={str(ids[0]): -100}).choices[0]
    assert banned.logprobs.tokens[0] != first
    forced = {str(ids[0]): 100}
    text = complete(temperature=0, logit_bias=forced).choices[0].text
    assert text == first * 5
    complete(temperature=0, presence_penalty=2, frequency_penalty=2)


def tokenize(text):
    address = str(client.base_url).replace("/v1/", "/tokenize")
    answer = client.post(address, cast_to=object, body={"prompt": text, "add_special_tokens": False})
    return answer["tokens"]


@check
def prompts_of_tokens_and_lists():
    ids = tokenize("The cell")
    answer = complete(prompt=[ids, ids[:1]], n=2, echo=True, max_tokens=0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == "The cell"
    assert complete(prompt=["a", "b"], best_of=1).choices[1].index == 1


@check
def echo_with_logprobs():
    answer = complete(echo=True, logprobs=3, max_tokens=1, temperature=0).choices[0]
    logprobs = answer.logprobs
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert answer.text.startswith("The cell")
    assert len(logprobs.tokens) == len(logprobs.text_offset) == len(tokenize("The cell")) + 2
    total = sum(math.exp(value) for value in logprobs.top_logprobs[-1].values())
    assert total < 1


@check
def unknown_members():
    answer = chat(extra_body={"trace": "b7"}, metadata={"a": "b"}, store=True, reasoning_effort="low")
    assert sorted(answer.flexmesh["ignored"]) == ["metadata", "reasoning_effort", "store", "trace"]


@check
def refusals():
    for more, kind in [({"top_logprobs": 3}, openai.BadRequestError), ({"n": 0}, openai.BadRequestError)]:
        try:
            chat(**more)
        except kind as error:
            assert error.code == "bad-field" and error.param
        else:
            raise AssertionError(f"{more} was answered")
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError as error:
        assert error.response.headers["www-authenticate"] == "Bearer"
    else:
        raise AssertionError("a wrong key was answered")
    try:
        client.models.retrieve("gpt-4o")
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("a model that does not exist was answered")


@check
def asynchronous():
    async def ask():
        async with openai.AsyncOpenAI() as other:
            return await asyncio.gather(
                *(other.completions.create(model=MODEL, prompt="a", max_tokens=2) for _ in range(8))
            )

    assert len(asyncio.run(ask())) == 8


failed = 0
for function in checks:
    try:
        function()
        print(f"pass  {function.__name__}", flush=True)
    except Exception as error:  # One line for each check.
        failed += 1
        print(f"FAIL  {function.__name__}: {type(error).__name__} {str(error)[:300]}", flush=True)
print(f"openai {openai.__version__}: {len(checks) - failed} of {len(checks)} checks pass")
sys.exit(1 if failed else 0)
