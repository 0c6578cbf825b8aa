"""`kleiber advise`: the routes to a quality, ranked by what training and serving cost together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from kleiber.cli.options import Json, parse_choice, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError

if TYPE_CHECKING:
    from kleiber.scaling import Law, PublishedLaw
    from kleiber.study.place import Place

__all__ = ["EXAMPLE", "advise"]

EXAMPLE = "kleiber advise law.json --loss 2.1 --serve-tokens 1e12 --device h100-sxm"
_PICTURES = (".svg", ".png", ".html")
_UNITS = ("usd", "s", "flops")
_TARGET, _SERVED, _PLACE, _ROUTES, _MODEL = (
    "What is wanted", "How it is served", "Where", "Routes", "Models",
)  # fmt: skip


def _option(name: str, metavar: str, help_: str, panel: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help_, rich_help_panel=panel)


def advise(
    law: Annotated[
        str,
        typer.Argument(metavar="LAW", help="A law that kleiber fit has written, or besiroglu or hoffmann."),
    ],
    *,
    loss: Annotated[
        str | None,
        _option("--loss", "NUMBER", "Quality that every route must reach, in nats a token.", _TARGET),
    ] = None,
    budget_usd: Annotated[
        str | None,
        _option(
            "--budget-usd", "USD", "For training and serving together: the best quality it buys.", _TARGET
        ),
    ] = None,
    budget_s: Annotated[
        str | None,
        _option("--budget-s", "SECONDS", "Of all devices side by side, in place of money.", _TARGET),
    ] = None,
    budget_flops: Annotated[
        str | None, _option("--budget-flops", "NUMBER", "Operations, in place of money.", _TARGET)
    ] = None,
    by: Annotated[
        str | None,
        _option(
            "--by",
            "usd|s|flops",
            "What routes are ranked by; a budget's own unit, else money, time without a price.",
            _TARGET,
        ),
    ] = None,
    serve_tokens: Annotated[
        str | None,
        _option(
            "--serve-tokens", "NUMBER", "Read and written over the model's life; 0 serves nothing.", _SERVED
        ),
    ] = None,
    prompt_tokens: Annotated[
        str, _option("--prompt-tokens", "WHOLE", "That the usual request reads.", _SERVED)
    ] = "512",
    new_tokens: Annotated[str, _option("--new-tokens", "WHOLE", "That it writes.", _SERVED)] = "128",
    serve_batch: Annotated[
        str | None, _option("--serve-batch", "WHOLE", "Requests at once; 32, on this machine 1.", _SERVED)
    ] = None,
    device: Annotated[
        str | None, _option("--device", "NAME", "Without it this machine; 'list' lists all.", _PLACE)
    ] = None,
    num_devices: Annotated[str | None, _option("--num-devices", "WHOLE", "How many.", _PLACE)] = None,
    usd_per_hour: Annotated[str | None, _option("--usd-per-hour", "USD", "Of one device.", _PLACE)] = None,
    peak_flops_per_s: Annotated[
        str | None, _option("--peak-flops-per-s", "NUMBER", "Describes a device by hand.", _PLACE)
    ] = None,
    memory_bytes: Annotated[str | None, _option("--memory-bytes", "NUMBER", "Of one device.", _PLACE)] = None,
    bandwidth_bytes_per_s: Annotated[
        str | None, _option("--bandwidth-bytes-per-s", "NUMBER", "Of its memory.", _PLACE)
    ] = None,
    donor: Annotated[
        list[Path] | None,
        _option(
            "--donor", "RUN", "A trained model that a larger one is grown from; may be given again.", _ROUTES
        ),
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        _option(
            "--receipts",
            "RUN",
            "Compressed runs, or folders of them: what compression did before; may be given again.",
            _ROUTES,
        ),
    ] = None,
    vocab_size: Annotated[
        str | None,
        _option("--vocab-size", "WHOLE", "Of the models; without it usual for the law's sizes.", _MODEL),
    ] = None,
    context: Annotated[
        str | None, _option("--context", "WHOLE", "Tokens of a sequence in training; likewise.", _MODEL)
    ] = None,
    unique_tokens: Annotated[
        str | None,
        _option("--unique-tokens", "NUMBER", "Different tokens, for a law of repeated data.", _MODEL),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the advice here, before anything is trained."
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart", metavar="FILE", help="A picture of cost over served tokens: .svg, .png or .html."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Rank the routes to a quality by what they cost, training and serving together.

    The routes: the size that is cheapest to train; a smaller one that trains longer and is cheaper to serve; one grown from
    a donor; a larger one that is compressed, as receipts measured it. Costs are operations, time and money on the device, with
    intervals, and so is the number of served tokens at which the ranking turns. A run can be held to the advice:
    `kleiber verify advice.json RUN`.

    With --json: the document: question, loss, unit, routes (name, title, model, num_params, num_tokens, train, serve, total,
    cheapest_frac, unreached_frac, memory, predictions, rests_on, warnings, ...), left_out, break_evens, elsewhere, why,
    warnings, assumptions, created_at, hash.
    """
    command = f"kleiber advise {law} --loss 2.1 --serve-tokens 1e12"
    asked = {
        "--loss": loss,
        "--budget-usd": budget_usd,
        "--budget-s": budget_s,
        "--budget-flops": budget_flops,
    }
    if chart is not None and chart.suffix not in _PICTURES:
        raise UsageError(
            "--chart writes .svg, .png or .html.", got=chart.name, hint=f"{command} --chart advice.svg"
        )
    option = _one_of(asked, law)
    unit = _unit(option, by, command)
    served = _served(serve_tokens, law)
    from kleiber.study.advice.advise import Target, Wanted
    from kleiber.study.advice.advise import advise as advised

    def whole(text: str | None, name: str, example: int, *, minimum: int = 1) -> int | None:
        if text is None:
            return None
        return parse_whole(text, name, command, minimum=minimum, maximum=10**7, example=example)

    wanted = Wanted(
        served_tokens=served,
        unit=cast("Any", unit),
        prompt_tokens=whole(prompt_tokens, "--prompt-tokens", 512) or 1,
        new_tokens=whole(new_tokens, "--new-tokens", 128) or 1,
        serve_batch=whole(serve_batch, "--serve-batch", 32),
        vocab_size=whole(vocab_size, "--vocab-size", 50257, minimum=2),
        context=whole(context, "--context", 1024),
        unique_tokens=None
        if unique_tokens is None
        else parse_positive(unique_tokens, "--unique-tokens", command),
        donors=tuple(donor or ()),
        receipts=tuple(receipts or ()),
    )
    place = _place(
        device,
        whole(num_devices, "--num-devices", 8),
        {
            "usd_per_hour": (usd_per_hour, "--usd-per-hour", "2.50"),
            "peak_flops_per_s": (peak_flops_per_s, "--peak-flops-per-s", "3e14"),
            "memory_bytes": (memory_bytes, "--memory-bytes", "80e9"),
            "bandwidth_bytes_per_s": (bandwidth_bytes_per_s, "--bandwidth-bytes-per-s", "2e12"),
        },
        command,
    )
    # The option that is refused stands in the proposed line once, with a value that would do.
    worked, example = command.replace(" --loss 2.1", ""), "2.1" if option == "--loss" else "1e6"
    amount = parse_positive(asked[option] or "", option, worked, example=example)
    target = Target(loss=amount) if option == "--loss" else Target(budget=amount)
    found = advised(_law(law), target, place, wanted)
    out = Output(json_)
    if output:
        found.write(output)
    if chart is not None:
        from kleiber.report.advice_chart import write_advice_chart

        write_advice_chart(found, chart)
    from kleiber.cli.advice_tables import print_advice

    print_advice(out, found)
    out.say(
        f"Written to {output}, hash {found.hash}: kleiber verify {output} RUN scores it."
        if output
        else "Add -o advice.json to be held to it."
    )
    if chart is not None:
        out.say(f"wrote {chart}")
    out.document(found.model_dump(mode="json"))


def _law(text: str) -> Law | PublishedLaw:
    """Return the law in a file, or the published one of that name."""
    from kleiber import scaling
    from kleiber.errors import nearest

    if Path(text).is_file():
        return scaling.Law.read(Path(text))
    if text in scaling.PUBLISHED_LAWS:
        return scaling.PUBLISHED_LAWS[text]
    what = (
        "is no file"
        if text.endswith(".json")
        else f"is no published law. {nearest(text, scaling.PUBLISHED_LAWS)}"
    )
    raise UsageError(f"{text!r} {what.rstrip('.')}.", hint=EXAMPLE.replace("law.json", "besiroglu"))


def _one_of(asked: dict[str, str | None], law: str) -> str:
    """Return the one option that says what is wanted."""
    given = [name for name, text in asked.items() if text is not None]
    if len(given) != 1:
        said = "none was given" if not given else f"{' and '.join(given)} were given"
        raise UsageError(
            f"Advice is for a quality or for a budget, one of {', '.join(asked)}; {said}.",
            hint=f"kleiber advise {law} --loss 2.1 --serve-tokens 1e12",
        )
    return given[0]


def _unit(option: str, by: str | None, command: str) -> str | None:
    """Return what routes are ranked in; None takes what the place has."""
    own = option.removeprefix("--budget-") if option != "--loss" else None
    if by is None:
        return own
    parse_choice(by, "--by", command, _UNITS)
    if own is not None and by != own:
        raise UsageError(
            f"--by {by} does not go with {option}: a budget is spent in its own unit.",
            got=by,
            hint=f"{option} 1e6 alone",
        )
    return by


def _served(text: str | None, law: str) -> float:
    """Return the tokens that will be served, 0 or more."""
    command = f"kleiber advise {law} --loss 2.1"
    if text is None:
        raise UsageError(
            "Which route is cheapest depends on how many tokens will be served: --serve-tokens.",
            hint=f"{command} --serve-tokens 1e12   (0 serves nothing)",
        )
    if text.strip() in {"0", "0.0"}:
        return 0.0
    return parse_positive(text, "--serve-tokens", command, example="1e12")


def _place(
    device: str | None, num_devices: int | None, numbers: dict[str, tuple[str | None, str, str]], command: str
) -> Place:
    """Return the place that was typed; `numbers` are its own, by the names of `place_of`."""
    from kleiber.study.place import place_of

    parsed: dict[str, Any] = {
        key: None if text is None else parse_positive(text, name, command, example=example)
        for key, (text, name, example) in numbers.items()
    }
    return place_of(device, num_devices=num_devices, **parsed)
