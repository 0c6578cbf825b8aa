"""Chat templates are written as transformers writes them, and none of them gets out of hand."""

from __future__ import annotations

import json

import openai
import pytest
from scripted_texts import serving

from kleiber.errors import DataError
from kleiber.serve.errors import RefusedError
from kleiber.serve.writing.chat_template import open_chat_template

CHATML = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nHelp.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' ~ '\\n' }}\n"
    "{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ALTERNATING = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate.') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}{% else %}"
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
COUNTING = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if ns.n > 1 %}{% break %}{% endif %}"
    "{{ m.content | replace('H', 'J') | upper }}{% endfor %}{{ messages | map(attribute='role') | join(', ') }}"
)
TALK = [
    {"role": "user", "content": " Hi\n"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "So?"},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def rendered(folder, template, messages=TALK):
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return open_chat_template(folder, SPECIAL).render(messages)


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        ALTERNATING,
        "{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ loop.last }}{{ m | tojson }}{% endfor %}",
        COUNTING,
        "{% macro say(m) %}<{{ m['content'].split()[0] | default('x', true) }}>{% endmacro %}{% for m in messages[::-1] %}{{ say(m) }}{% endfor %}",
        "{{ 'ab' * 3 }}{{ 7 % 4 }}{{ range(3) | list }}{{ '-'.join(['a', 'b']) }}{{ {'a': 1}.items() | list }}",
    ],
)
def test_as_transformers_renders_it(tmp_path, template):
    from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415 - slow to import

    expected, _ = render_jinja_template(
        conversations=[TALK], chat_template=template, add_generation_prompt=True, **SPECIAL
    )
    assert rendered(tmp_path, template) == expected[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ 'a' * 99999999 }}",
        "{{ 99999999 * ['a'] }}",
        "{{ 9 ** 99999999 }}",
        "{{ range(1000000) | list }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '{:>99999999}'.format(1) }}",
        "{{ 'a'.ljust(99999999) }}",
        "{{ ('a' * 4000) | replace('a', 'b' * 4000) }}",
        "{{ ('a' * 4000).replace('a', 'b' * 4000) }}",
        "{{ ('b' * 4000).join(range(9999) | map('string')) }}",
        "{{ range(9999) | join('b' * 4000) }}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ messages | tojson(indent=99999999) }}",
    ],
)
def test_a_template_without_an_end_is_ended(tmp_path, template):
    with pytest.raises(RefusedError, match="comes to no end, or to more than 4,000,000 characters"):
        rendered(tmp_path, template)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ ''.__class__.__mro__ }}", "fails on these messages: access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "fails on these messages: access to attribute 'append'"),
        ("{{ raise_exception.__globals__.x }}", "fails on these messages: access to attribute '__globals__'"),
        ("{{ messages[0].content + 1 }}", "fails on these messages: can only concatenate str"),
        ("{{ nothing.here }}", "fails on these messages: 'nothing' is undefined"),
        ("{% include 'x' %}", "fails on these messages: no loader"),
        (ALTERNATING, r"refuses the messages: Roles must alternate\."),
    ],
)
def test_what_a_template_may_not_do_is_said(tmp_path, template, sentence):
    with pytest.raises(RefusedError, match=sentence):
        rendered(tmp_path, template, [TALK[0], TALK[0]])


@pytest.mark.parametrize("template", ["{% for %}", "{{ a | popitem }}", "{% endfor %}", "{{" * 5000])
def test_what_is_no_template_is_refused_when_the_model_is_opened(tmp_path, template):
    with pytest.raises(DataError, match=r"chat_template\.jinja holds a chat template that is none"):
        rendered(tmp_path, template)


def test_the_template_of_a_folder_is_found_where_it_is(tmp_path):
    assert open_chat_template(tmp_path, {}).render(TALK[:1]) == "User:  Hi\n\n\nAssistant:"
    config = tmp_path / "tokenizer_config.json"
    config.write_text(
        json.dumps(
            {"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]}
        )
    )
    assert open_chat_template(tmp_path, {}).render(TALK) == "d"
    config.write_text(json.dumps({"chat_template": "c"}))
    assert open_chat_template(tmp_path, {}).render(TALK) == "c"
    assert rendered(tmp_path, "j") == "j"
    config.write_text("{")
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(DataError, match=r"the chat template beside .*config\.json cannot be read"):
        open_chat_template(tmp_path, {})


def test_a_server_writes_a_conversation_by_the_models_own_template(tmp_path):
    with serving(tmp_path, template=ALTERNATING) as server:
        ask = server.openai.chat.completions.create
        assert ask(model="alphabet", messages=TALK, max_tokens=3).choices[0].message.content == "abc"
        (job,) = server.backend.asked
        end = 256  # its end of text begins its texts too
        said = [end, *b"[INST] Hi [/INST]Yo", end, *b"[INST] So? [/INST]"]
        assert job.writing.tokens[:-3] == said
        with pytest.raises(
            openai.BadRequestError, match="refuses the messages: Roles must alternate"
        ) as caught:
            ask(model="alphabet", messages=TALK[1:])
        assert caught.value.param == "messages"
