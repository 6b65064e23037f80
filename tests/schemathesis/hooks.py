"""What schemathesis is told about this gateway: waits are cut short, and what the document cannot say
is looked up in exceptions.toml. A failure that stands there is none; anything else is one."""

import json
import pathlib
import re
import tomllib

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

EXCEPTIONS = tomllib.loads((pathlib.Path(__file__).parent / "exceptions.toml").read_text())["exception"]
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1}


@schemathesis.hook
def before_call(context, case, kwargs):
    """A wait that is right becomes a short one; one that is wrong stays."""
    for values in (case.query, case.body):
        for name, most in (("wait", 60_000), ("durability_timeout", 10_000)):
            text = values.get(name) if isinstance(values, dict) else None
            parts = re.fullmatch(r"([0-9]+)(ms|s|m|h|d|)", text) if isinstance(text, str) else None
            if parts and 10 < int(parts[1]) * UNITS[parts[2]] <= most:
                values[name] = "10ms"


def vanishes(case):
    """Whether a part of a form is nothing once it is sent: an empty list, or a name that is ignored."""
    if case.media_type != "application/x-www-form-urlencoded" or not isinstance(case.body, dict):
        return False
    return any(value in ([], {}, None) or name.startswith("_") for name, value in case.body.items())


def is_known(check, response):
    try:
        problem = json.loads(response.content)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return any(
        check in exception["checks"]
        and re.fullmatch(exception.get("code", ".*"), problem.get("code", ""))
        and re.search(exception.get("detail", ""), problem.get("detail", ""))
        for exception in EXCEPTIONS
    )


def unless_known(original):
    """The check of this name, but for the exceptions."""

    def check(ctx, response, case):
        # What was wrong with it was never sent.
        if original is negative_data_rejection and vanishes(case):
            return None
        if not is_known(original.__name__, response):
            return original(ctx, response, case)

    check.__name__ = original.__name__ + "_unless_known"
    schemathesis.check(check)


for original in (positive_data_acceptance, negative_data_rejection, not_a_server_error):
    unless_known(original)
