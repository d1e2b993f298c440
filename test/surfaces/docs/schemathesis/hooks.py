"""Leads some of the generated requests to things that exist; by chance nothing but 404 would be met."""
import os
import random
import re

import schemathesis

ID = "[0-9a-hjkmnp-tv-z]"
KNOWN = {
    "session": (re.compile(f"^ses_{ID}{{26}}$"), os.environ["KNOWN_SESSION"]),
    "interaction": (re.compile(f"^int_{ID}{{26}}_{ID}{{10}}$"), os.environ["KNOWN_INTERACTION"]),
}
chance = random.Random(1)
# the stream of a session that exists has no end, and one session must stay
ALONE = {"followSession", "deleteSession"}


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.operation.definition.raw.get("operationId") not in ALONE:
        for name, value in (case.path_parameters or {}).items():
            like, known = KNOWN[name]
            if isinstance(value, str) and like.match(value) and chance.random() < 0.7:
                case.path_parameters[name] = known
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("pool"), str) and chance.random() < 0.7:
        body["pool"] = "coder"
