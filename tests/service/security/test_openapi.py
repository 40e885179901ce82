"""Generated requests against the OpenAPI document: never a 500, never what it does not say.

A few cases here; ``make fuzz`` asks for more (FUZZ_CASES), round by round (FUZZ_SEED).
"""

from __future__ import annotations

import base64
import os
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from service.app import create_app
from service.settings import Settings

CASES = int(os.environ.get("FUZZ_CASES", "25"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
load_all_checks()


@pytest.fixture
def schema(engine, bundled, make_key, keys_file):
    """The document, the app behind it running, and a key that opens all of it."""
    headers = {"Authorization": f"Bearer {make_key()}"}
    app = create_app(Settings(engine="fake", api_keys_file=keys_file), engine, bundled())
    loaded = schemathesis.openapi.from_asgi("/openapi.json", app)
    loaded.config.generation.with_security_parameters = False  # ours are the ones sent
    yield loaded, headers
    shutdown_lifespans()


def test_generated_requests(schema, png):
    loaded, headers = schema
    # A stream of lines is no body that can be generated here; test_batch.py asks it.
    loaded = loaded.exclude(path="/v1/answers:batch")
    encoded = base64.b64encode(png).decode()
    seen: Counter[int] = Counter()

    def check(operation) -> int:
        before = seen.total()
        modes = [operation.as_strategy(mode) for mode in GenerationMode]

        @seed(SEED)
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(modes), real_image=st.booleans())
        def run(case, real_image):
            good = case.meta.generation.mode is GenerationMode.POSITIVE
            if good and real_image and isinstance(case.body, dict):
                form = case.media_type == "multipart/form-data"
                case.body["image"] = png if form else encoded
            # A text that is no image is refused, although the document cannot say so; and a form
            # says nothing at all for a null or an empty list.
            excluded = [positive_data_acceptance]
            if case.media_type == "multipart/form-data":
                excluded.append(negative_data_rejection)
            reply = case.call_and_validate(headers=headers, excluded_checks=excluded)
            seen[reply.status_code] += 1

        run()
        return seen.total() - before

    ran = {found.ok().label: check(found.ok()) for found in loaded.get_all_operations()}
    print(f"cases: {ran}; answers by status: {dict(sorted(seen.items()))}")
    assert ran["POST /v1/answer"] >= CASES
    assert min(ran.values()) >= 1
    assert seen[200] > 0
    assert seen[422] > 0
    assert max(seen) < 500
