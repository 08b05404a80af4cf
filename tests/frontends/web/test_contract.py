"""The OpenAPI document is true: whatever it allows is answered, and as it says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import Gallery

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


# Failures are told as they are: to make one smaller means asking a server whose state has moved on.
SETTINGS = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def contract(gallery: Gallery) -> Any:
    """The document, with things in it that are there."""
    found = gallery.server.get("/api/v1/pictures?limit=5").json()["pictures"]
    data = (gallery.folder / "01.jpg").read_bytes()
    upload = gallery.server.send("/api/v1/uploads", {"image": ("01.jpg", data)}).json()["id"]
    job = gallery.server.post("/api/v1/jobs", {"dry_run": True}).json()["id"]
    schema = schemathesis.openapi.from_url(f"{gallery.server.url}/api/v1/openapi.json")
    coins = itertools.cycle([True, False])
    ended = "0" * 32
    there = itertools.cycle(
        {"pictures": one["id"], "uploads": upload, "jobs": job, "labelling": ended} for one in found
    )

    @schema.hook
    def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """Every other request is for something that is there."""
        if parameters and "key" in parameters and next(coins):
            kind = context.operation.path.split("/")[3]
            return {**parameters, "key": next(there)[kind]}
        return parameters

    return schema


def test_every_operation_answers_as_the_document_says(contract: Any) -> None:
    operations = [result.ok() for result in contract.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @SETTINGS
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        check()


def test_what_one_answer_names_the_next_request_finds(contract: Any) -> None:
    class Workflow(contract.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            seen.add((case.operation.label, response.status_code))
            case.validate_response(response, checks=CHECKS)

    seen: set[tuple[str, int]] = set()
    Workflow.run(settings=settings(SETTINGS, max_examples=25, stateful_step_count=6))
    assert ("GET /api/v1/pictures/{key}", 200) in seen
