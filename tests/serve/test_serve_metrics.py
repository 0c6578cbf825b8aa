"""What is counted is what happened, and nobody can make the counters grow without end."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from kleiber.infer.batching import BatchStats
from kleiber.serve import ServeSettings
from kleiber.serve.metrics import Metrics


def read(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the value of each sample, by its name and the values of its labels in their names' order."""
    body, _ = metrics.text()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_a_text_is_counted_by_its_parts() -> None:
    metrics = Metrics()
    metrics.text_began("lm", num_prompt_tokens=7, time_to_first_s=0.25)
    metrics.tokens_written("lm", 1)
    metrics.tokens_written("lm", 4)
    metrics.text_ended("lm", num_tokens=5, time_s=0.08)
    found = read(metrics)
    assert found["kleiber_prompt_tokens_total", ("lm",)] == 7
    assert found["kleiber_generated_tokens_total", ("lm",)] == 5
    assert found["kleiber_time_to_first_token_seconds_sum", ("lm",)] == 0.25
    # Five tokens have four gaps: 80 ms over 4.
    assert abs(found["kleiber_time_per_token_seconds_sum", ("lm",)] - 0.02) < 1e-12
    assert found["kleiber_time_per_token_seconds_count", ("lm",)] == 1


def test_one_token_has_no_pace() -> None:
    metrics = Metrics()
    metrics.text_ended("lm", num_tokens=1, time_s=0.0)
    assert ("kleiber_time_per_token_seconds_count", ("lm",)) not in read(metrics)


def test_requests_by_route_and_status() -> None:
    metrics = Metrics()
    metrics.request_ended("/v1/models", "GET", 200, 0.002)
    metrics.request_ended("/v1/models", "GET", 200, 0.002)
    metrics.request_ended("/v1/models", "GET", 404, 0.002)
    found = read(metrics)
    assert found["kleiber_requests_total", ("GET", "/v1/models", "200")] == 2
    assert found["kleiber_requests_total", ("GET", "/v1/models", "404")] == 1
    assert found["kleiber_request_seconds_count", ("/v1/models",)] == 3


def test_made_up_paths_and_methods_are_one_row() -> None:
    metrics = Metrics()
    for index in range(100):
        metrics.request_ended(None, f"METHOD{index}", 404, 0.001)
    rows = {key: value for key, value in read(metrics).items() if key[0] == "kleiber_requests_total"}
    assert rows == {("kleiber_requests_total", ("other", "unknown", "404")): 100}


def test_gauges_are_those_of_the_moment_they_are_read() -> None:
    running = [3]
    metrics = Metrics()
    metrics.watch("lm", lambda: BatchStats(running[0], 2, 10, 1, 400, 0.125))
    assert read(metrics)["kleiber_running", ("lm",)] == 3
    running[0] = 5
    found = read(metrics)
    assert found["kleiber_running", ("lm",)] == 5
    assert found["kleiber_waiting", ("lm",)] == 2
    assert found["kleiber_cache_used_ratio", ("lm",)] == 0.125


def test_rejections_and_cancellations_say_why() -> None:
    metrics = Metrics()
    metrics.rejected("lm", "queue_full")
    metrics.cancelled("lm", "client_left")
    metrics.cancelled("lm", "client_left")
    metrics.inputs_answered("digits", 3, num_tokens=12)
    found = read(metrics)
    assert found["kleiber_rejected_total", ("lm", "queue_full")] == 1
    assert found["kleiber_cancelled_total", ("lm", "client_left")] == 2
    assert found["kleiber_inputs_total", ("digits",)] == 3
    assert found["kleiber_prompt_tokens_total", ("digits",)] == 12


def test_two_servers_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.tokens_written("lm", 5)
    assert ("kleiber_generated_tokens_total", ("lm",)) not in read(other)


def test_openmetrics_where_it_is_asked_for() -> None:
    body, content_type = Metrics().text("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert Metrics().text()[1].startswith("text/plain")


def test_the_page_on_serving_names_all_of_them_and_the_limits_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    families = {family.name: family.type for family in Metrics().registry.collect()}
    names = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}
    assert set(re.findall(r"`(kleiber_\w+)`", page)) == names
    settings = ServeSettings()
    assert f"at most {settings.max_inputs:,}." in page
    limits = (settings.max_image_pixels, settings.max_sound_s, settings.max_text_chars)
    assert limits == (50_000_000, 600, 1_000_000)
    assert "more than 50 million pixels and a sound of more than ten minutes" in page
    assert "a text of more than a million characters" in page
