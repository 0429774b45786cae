"""The client against a server that speaks HTTP: what it sends, what it makes of answers, what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from slipway.adapters.kfp.api import ApiRefused, KfpApi, NotCertain
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.adapters.secrets import Secrets
from slipway.runtime.errors import Unavailable


@dataclass
class Server:
    """Answers with what the test set, in turn; keeps what was asked."""

    url: str = ""
    answers: list[Callable[[], Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        found: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "authorization": request.headers.get("Authorization"),
        }
        if request.content_type == "multipart/form-data":
            form = await request.post()
            upload = form["uploadfile"]
            assert isinstance(upload, web.FileField)
            found["upload"] = (upload.filename, upload.file.read().decode())
        elif request.can_read_body:
            found["json"] = await request.json()
        self.asked.append(found)
        answer = self.answers.pop(0)()
        if asyncio.iscoroutine(answer):
            answer = await answer
        assert isinstance(answer, web.StreamResponse)
        return answer

    def say(self, body: Any, status: int = 200) -> None:
        self.answers.append(lambda: web.json_response(body, status=status))

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/pipeline"
    yield found
    await runner.cleanup()


@pytest.fixture
def api(tmp_path: Path) -> KfpApi:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    return KfpApi(Secrets(), str(token))


async def test_a_run_is_asked_for_below_the_endpoints_path(server: Server, api: KfpApi) -> None:
    server.say({"run_id": "r1", "state": "RUNNING", "a_field_of_a_later_day": [1]})
    assert await api.run(server.endpoint, "r1") == {
        "run_id": "r1",
        "state": "RUNNING",
        "a_field_of_a_later_day": [1],
    }
    (asked,) = server.asked
    assert asked["path"] == "/pipeline/apis/v2beta1/runs/r1"
    assert asked["authorization"] is None


async def test_there_is_no_such_run(server: Server, api: KfpApi) -> None:
    server.say({"code": 5, "message": "Run r1 not found"}, 404)
    assert await api.run(server.endpoint, "r1") is None


async def test_the_token_is_read_for_each_request(server: Server, api: KfpApi, tmp_path: Path) -> None:
    endpoint = Endpoint(server.url, token=True)
    server.say({})
    server.say({})
    await api.healthy(endpoint)
    (tmp_path / "token").write_text("a newer one")
    await api.healthy(endpoint)
    assert [each["authorization"] for each in server.asked] == ["Bearer secret-token", "Bearer a newer one"]


async def test_a_missing_token_says_what_to_set(server: Server, tmp_path: Path) -> None:
    api = KfpApi(Secrets(), str(tmp_path / "nothing"))
    with pytest.raises(Unavailable, match=r"kubeflowPipelines\.token\.enabled=true") as error:
        await api.healthy(Endpoint(server.url, token=True))
    assert error.value.reason == "EndpointRefused"
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (401, {"code": 16, "message": "Unauthenticated"}, "EndpointRefused", "401: Unauthenticated"),
        (403, {"error": {"message": "no access to runs"}}, "EndpointRefused", "no access to runs"),
        (429, {}, "EndpointUnavailable", "429"),
        (500, {"error_message": "database is down"}, "EndpointUnavailable", "500: database is down"),
        (503, "a page", "EndpointUnavailable", "503"),
        (302, {}, "EndpointUnavailable", "302"),
        (200, "a page of the interface", "EndpointUnavailable", "not its user interface"),
        (200, [1], "EndpointUnavailable", "no JSON object"),
    ],
)
async def test_answers_that_are_none(
    server: Server, api: KfpApi, status: int, body: Any, reason: str, said: str
) -> None:
    if isinstance(body, str):
        server.answers.append(lambda: web.Response(text=body, status=status))
    else:
        server.say(body, status)
    with pytest.raises(Unavailable, match=said) as error:
        await api.run(server.endpoint, "r1")
    assert error.value.reason == reason
    assert not isinstance(error.value, NotCertain)


async def test_a_refusal_has_the_endpoints_words(server: Server, api: KfpApi) -> None:
    server.say({"code": 3, "message": "Invalid input error: pipeline spec is broken."}, 400)
    with pytest.raises(ApiRefused) as error:
        await api.create_run(server.endpoint, {"run_id": "r1"})
    assert (error.value.status, error.value.message) == (400, "Invalid input error: pipeline spec is broken")


async def test_a_write_that_breaks_off_is_not_certain(server: Server, api: KfpApi) -> None:
    class Gone(web.Response):
        async def prepare(self, request: web.BaseRequest) -> None:
            assert request.transport is not None
            request.transport.abort()

    server.answers.append(Gone)
    with pytest.raises(NotCertain):
        await api.create_run(server.endpoint, {"run_id": "r1"})
    server.answers.append(Gone)
    with pytest.raises(Unavailable) as error:
        await api.run(server.endpoint, "r1")
    assert not isinstance(error.value, NotCertain)


async def test_an_answer_without_end_is_not_read(server: Server, api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.adapters.kfp.api.LIMIT", 1000)
    server.say({"run_id": "x" * 2000})
    with pytest.raises(Unavailable, match="answered with more than"):
        await api.run(server.endpoint, "r1")


async def test_a_version_is_uploaded_once(server: Server, api: KfpApi) -> None:
    server.say({})
    server.say({"pipeline_version_id": "v1"})
    assert await api.version(server.endpoint, "p1", "abc-def", "about", lambda: "pipelineInfo: {}\n") == "v1"
    server.say({"pipeline_versions": [{"display_name": "abc-def", "pipeline_version_id": "v1"}]})
    assert await api.version(server.endpoint, "p1", "abc-def", "about", lambda: pytest.fail("again")) == "v1"
    listed, uploaded, _ = server.asked
    assert listed["path"].endswith("/pipelines/p1/versions")
    assert json.loads(listed["query"]["filter"]) == {
        "predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": "abc-def"}]
    }
    assert uploaded["path"].endswith("/pipelines/upload_version")
    assert uploaded["query"]["pipelineid"] == "p1"
    assert uploaded["upload"] == ("abc-def.yaml", "pipelineInfo: {}\n")


async def test_who_comes_second_takes_what_the_first_made(server: Server, api: KfpApi) -> None:
    server.say({"experiments": []})
    server.say({"code": 6, "message": "Already exist"}, 409)
    server.say({"experiments": [{"display_name": "other", "experiment_id": "e0"}], "next_page_token": "2"})
    server.say({"experiments": [{"display_name": "flights.delays", "experiment_id": "e1"}]})
    assert await api.experiment(server.endpoint, "flights", "flights.delays", "about") == "e1"
    assert [each["method"] for each in server.asked] == ["GET", "POST", "GET", "GET"]
    assert server.asked[1]["json"] == {
        "display_name": "flights.delays",
        "description": "about",
        "namespace": "flights",
    }
    assert server.asked[3]["query"]["page_token"] == "2"


async def test_single_user_installations_are_told_no_namespace(server: Server, api: KfpApi) -> None:
    server.say({})
    server.say({"pipeline_id": "p1"})
    assert await api.pipeline(server.endpoint, "", "flights.delays", "about") == "p1"
    assert "namespace" not in server.asked[0]["query"]
    assert "namespace" not in server.asked[1]["json"]


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "at_least", "at_most"),
    [
        ("7", 7, 7),
        ("86400", 300, 300),
        ("date", 55, 60),
        ("soon", 0, 0),
        ("", 0, 0),
    ],
)
async def test_an_endpoint_that_wants_a_pause_gets_it(
    server: Server, status: int, text: str, at_least: float, at_most: float
) -> None:
    clock = Clock()
    api = KfpApi(Secrets(), clock=clock)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    headers = {"Retry-After": soon if text == "date" else text} if text else {}
    server.answers.append(lambda: web.Response(status=status, headers=headers))
    with pytest.raises(Unavailable) as error:
        await api.run(server.endpoint, "r1")
    pause = error.value.retry_after or 0.0
    assert at_least <= pause <= at_most
    if not pause:
        return
    clock.now += pause - 1
    with pytest.raises(Unavailable, match="asked for a pause") as error:
        await api.create_run(server.endpoint, {"run_id": "r1"})
    assert not isinstance(error.value, NotCertain), "nothing was sent"
    assert error.value.retry_after == pytest.approx(1)
    assert len(server.asked) == 1, "nor by any other run"
    other = Endpoint(f"{server.url}/other")
    server.say({"run_id": "r2"})
    assert await api.run(other, "r2"), "another endpoint said nothing of the kind"
    clock.now += 1.1
    server.say({"run_id": "r1"})
    assert await api.run(server.endpoint, "r1")


async def test_only_answers_that_mean_a_pause_are_heeded(server: Server, api: KfpApi) -> None:
    server.answers.append(lambda: web.json_response({"run_id": "r1"}, headers={"Retry-After": "60"}))
    assert await api.run(server.endpoint, "r1")
    server.answers.append(lambda: web.Response(status=500, headers={"Retry-After": "60"}))
    with pytest.raises(Unavailable) as error:
        await api.run(server.endpoint, "r1")
    assert error.value.retry_after is None


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            {"pipeline_runtime": {"workflow_manifest": '{"spec": {"activeDeadlineSeconds": 0}}'}},
            {"activeDeadlineSeconds": 0},
        ),
        ({"pipeline_runtime": {"workflow_manifest": "no json"}}, None),
        ({"pipeline_runtime": {"workflow_manifest": "[1]"}}, None),
        ({"pipeline_runtime": None}, None),
        ({}, None),
        ([], None),
    ],
)
async def test_the_workflow_that_an_endpoint_kept_is_read_leniently(
    server: Server, api: KfpApi, body: Any, found: Any
) -> None:
    server.say(body)
    manifest = await api.last_workflow(server.endpoint, "r1")
    assert (manifest["spec"] if manifest is not None else None) == found
    assert server.asked[0]["path"] == "/pipeline/apis/v1beta1/runs/r1"


@pytest.mark.parametrize(("status", "passes"), [(403, False), (404, False), (500, False), (501, False), (503, True)])
async def test_a_server_without_the_older_api_tells_nothing(
    server: Server, api: KfpApi, status: int, passes: bool
) -> None:
    server.answers.append(lambda: web.Response(text="a page", status=status))
    if passes:
        with pytest.raises(Unavailable):
            await api.last_workflow(server.endpoint, "r1")
    else:
        assert await api.last_workflow(server.endpoint, "r1") is None


async def test_a_workflow_that_is_too_large_is_not_read(
    server: Server, api: KfpApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.adapters.kfp.api.LIMIT", 100)
    server.say({"pipeline_runtime": {"workflow_manifest": "x" * 2000}})
    assert await api.last_workflow(server.endpoint, "r1") is None
