"""Adapts schemathesis to this gateway. Waits are cut short. Valid requests obey what the document declares in
extensions (`x-parameter-rules`, `x-member-rules`, `x-opaque`) and in words: 64-bit numbers, lengths in bytes,
dates of the calendar, encoded names. What only the state of a stream decides is in exceptions.toml."""

import base64
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


class Given:
    """The parameters or members of a call, by the names of rules: `name`, `name=value`, `body.name`, `a&b`."""

    def __init__(self, *holders, examples=None):
        self.holders = [holder for holder in holders if holder is not None]
        self.examples = examples or {}

    def __contains__(self, rule):
        if "&" in rule:
            return all(part in self for part in rule.split("&"))
        name, _, wanted = rule.partition("=")
        for holder in self.holders:
            if name in holder:
                value = holder[name]
                text = value if isinstance(value, str) else json.dumps(value)
                if text.lower() == wanted or (not wanted and value not in (None, [])):
                    return True
        return False

    def drop(self, rule):
        for holder in self.holders:
            holder.pop(rule.partition("=")[0], None)

    def add(self, rules):
        """Adds one of the names with the value of an example."""
        for name in rules:
            if name in self.examples:
                self.holders[0][name] = self.examples[name]
                return

    def obey(self, rules):
        exactly = rules.get("exactly_one", [])
        for name, others in rules.get("excludes", {}).items():
            for other in others if name in self else []:
                if other in self:
                    self.drop(other)
        for names in rules.get("at_most_one", []) + exactly:
            for name in [name for name in names if name in self][1:]:
                self.drop(name)
        # What one rule drops, another may need.
        for _ in range(2):
            for names in rules.get("together", []):
                if not all(name in self for name in names):
                    for name in names:
                        self.drop(name)
            for name, others in rules.get("needs", {}).items():
                if name in self and not any(other in self for other in others):
                    self.drop(name)
        for names in rules.get("at_least_one", []) + exactly:
            if not any(name in self for name in names):
                self.add(names)
        for holder in self.holders:
            for name in rules.get("distinct", []):
                if isinstance(holder.get(name), list):
                    holder[name] = list(dict.fromkeys(holder[name]))
            for less, more in rules.get("below", {}).items():
                size = len(holder[less]) if isinstance(holder.get(less), list) else holder.get(less)
                if size is not None and holder.get(more) and size >= holder[more]:
                    holder.pop(more)


def obey_parameter_rules(case):
    operation = case.operation.definition.raw
    members = case.body if isinstance(case.body, dict) else {}
    others = {f"body.{name}": value for name, value in members.items()}
    given = Given(case.query, case.headers, {**others, f"Content-Type: {case.media_type}": True})
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter.get("x-opaque"):
            given.drop(name)
        if name in given and parameter.get("schema", {}).get("contentEncoding") == "base64url":
            name64 = base64.urlsafe_b64encode(str(case.path_parameters["stream"]).encode())
            case.query[name] = name64.decode()
    given.obey(operation.get("x-parameter-rules", {}))


def resolve(case, schema):
    while "$ref" in schema:
        schema = case.operation.schema.raw_schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def obey_member_rules(case, value, schema, examples=None):
    """Makes a value of a body obey the rules of its schema."""
    schema = resolve(case, schema)
    for choice in schema.get("oneOf", []) + schema.get("anyOf", []):
        choice = resolve(case, choice)
        if isinstance(value, dict) and set(value) <= set(choice.get("properties", {})):
            obey_member_rules(case, value, choice, examples)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        own = {name: member["example"] for name, member in properties.items() if "example" in member}
        whole = schema.get("example")
        own = {**(whole if isinstance(whole, dict) else {}), **own}
        given = Given(value, examples={**own, **(examples or {})})
        given.obey(schema.get("x-member-rules", {}))
        for name, member in list(value.items()):
            obey_member_rules(case, member, properties.get(name, {}))
    if isinstance(value, list):
        for item in value:
            obey_member_rules(case, item, schema.get("items", {}))


def obey_body(case):
    body = case.operation.definition.raw.get("requestBody", {})
    content = {**body.get("content", {}), **body.get("x-content", {})}.get(case.media_type)
    if not content or not isinstance(case.body, (dict, list)):
        return
    case.body = fit(case.body)
    examples = content.get("example") if isinstance(content.get("example"), dict) else {}
    obey_member_rules(case, case.body, content.get("schema", {}), examples)
    if isinstance(case.body, dict):
        given = Given(case.body, examples=examples)
        given.obey(body.get("x-member-rules", {}))


def fit(value):
    """A value with numbers of 64 bits, days that every month has, and texts of at most 512 bytes."""
    if isinstance(value, dict):
        return {fit(name): fit(member) for name, member in value.items()}
    if isinstance(value, list):
        return [fit(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    value = re.sub(r"^[0-9]{10,}(?=(ms|[smhd])$)", lambda number: number[0][-10:], value)
    value = re.sub(r"[0-9]{20,}", lambda number: number[0][-19:], value)
    value = re.sub(r"^([0-9]{4}-[0-9]{2}-)(29|3[01])(?=[Tt ])", r"\g<1>28", value)
    return value.encode(errors="ignore")[:512].decode(errors="ignore")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Valid requests become ones that the document means; a wait that is right becomes a short one."""
    if is_valid(case):
        for values in (case.path_parameters, case.query, case.headers):
            for name in values or {}:
                values[name] = fit(values[name])
        obey_parameter_rules(case)
        obey_body(case)
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
        and re.fullmatch(exception["code"], problem.get("code", ""))
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
