"""Adapts schemathesis to this gateway. Waits are cut short. Valid requests obey what the document says in
extensions (`x-parameter-rules`, `x-opaque`) and in words (64-bit numbers, lengths in bytes, dates of the
calendar). Exceptions for bodies and for the state of a stream are in exceptions.toml."""

import json
import pathlib
import re
import tomllib

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

EXCEPTIONS = tomllib.loads((pathlib.Path(__file__).parent / "exceptions.toml").read_text())["exception"]
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1}


def is_valid(case):
    """Whether schemathesis means the request to be valid."""
    return not (case.meta and case.meta.generation.mode.is_negative)


def given(case, name):
    """Whether a parameter of a rule is given: by its name, or with a value as `name=value`."""
    name, _, value = name.partition("=")
    for values in (case.query, case.headers):
        if values and name in values and (not value or str(values[name]).lower() == value):
            return True
    return False


def drop(case, name):
    for values in (case.query, case.headers):
        if values:
            values.pop(name.partition("=")[0], None)


def obey_rules(case):
    """Drops parameters that exclude others, or lack one they need."""
    operation = case.operation.definition.raw
    for parameter in operation.get("parameters", []):
        if parameter.get("x-opaque"):
            drop(case, parameter["name"])
    rules = operation.get("x-parameter-rules", {})
    for name, others in rules.get("excludes", {}).items():
        for other in others if given(case, name) else []:
            if given(case, other):
                drop(case, other)
    for names in rules.get("at_most_one", []):
        for name in [name for name in names if given(case, name)][1:]:
            drop(case, name)
    for _ in range(2):
        for name, others in rules.get("needs", {}).items():
            if given(case, name) and not any(given(case, other) for other in others):
                drop(case, name)


def fit(text):
    """A text with numbers of 64 bits, days that every month has, and at most 512 bytes."""
    text = re.sub(r"[0-9]{20,}", lambda number: number[0][-19:], text)
    text = re.sub(r"^([0-9]{4}-[0-9]{2}-)(29|3[01])(?=[Tt ])", r"\g<1>28", text)
    return text.encode()[:512].decode(errors="ignore")


def fit_values(values):
    for name, value in (values or {}).items():
        if isinstance(value, str):
            values[name] = fit(value)
        elif isinstance(value, list):
            values[name] = [fit(item) if isinstance(item, str) else item for item in value]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Valid requests become ones that the document means; a wait that is right becomes a short one."""
    if is_valid(case):
        obey_rules(case)
        for values in (case.path_parameters, case.query):
            fit_values(values)
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
    of_body = all(error.get("pointer", "").startswith("/") for error in problem.get("errors", []))
    return any(
        check in exception["checks"]
        and (of_body or not exception.get("body"))
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
