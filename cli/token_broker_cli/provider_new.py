"""`providers new`: asks for a vendor's sample request and response, writes a provider's file and its examples.

Then it checks both and, if wanted, tries the real endpoint. The credentials and tokens of the samples are not written:
invented ones take their place.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from token_broker.catalogue import load_catalogue
from token_broker.catalogue.proof import PROOFS, examples_beside
from token_broker.core.names import is_name
from token_broker.core.provider_file_reader import EXPIRY_FORMS
from token_broker.core.validation import CREDENTIAL_NAME, absolute_url, one_of
from token_broker.oauth.responses import EXPIRY_FIELDS
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.provider_check import check_path
from token_broker_cli.provider_draft import BEARER, IN_URL, Draft, read_response
from token_broker_cli.sample_requests import read_sample
from token_broker_cli.target import Target

T = TypeVar("T")
CREDENTIALS: Final = ("client_id", "client_secret", "username", "password")
TOKEN_NAMES: Final = ("access_token", "accesstoken", "token", "jwt", "id_token", "sessionid", "session_id")
EXPIRY_NAME: Final = re.compile(r"expir|ttl|timeout|lifetime|valid", re.IGNORECASE)
MEANINGS: Final = ("fixed", "setting", "secret")
END: Final = "."


def new(target: Target, options: argparse.Namespace) -> Exit:
    """Asks, writes the two files, checks them, and offers to try the endpoint. Raises Problem."""
    name = options.name
    directory = options.directory
    file: Path = directory / f"{name}.toml"
    if not is_name(name):
        what = f"{name} cannot be a provider's name."
        raise Problem(what, "Use lower-case letters, digits and hyphens, such as acme-orders.", exit_code=Exit.USAGE)
    if name in load_catalogue():
        raise Problem(f"The broker has a provider {name}.", "Choose another name.", exit_code=Exit.USAGE)
    for path in (file, examples_beside(file)):
        if path.exists():
            raise Problem(f"{path} exists.", "Choose another name, or remove it.", exit_code=Exit.USAGE)
    if not target.screen.interactive:
        todo = "Run it on a terminal, or write the file: CONTRIBUTING.md, Add a provider."
        raise Problem("There is no terminal to ask on.", todo, exit_code=Exit.USAGE)
    draft = _Interview(target).draft(name)
    _write(file, draft.provider_file())
    _write(examples_beside(file), draft.examples_file())
    target.screen.say(f"\nWrote {file} and {examples_beside(file)}.")
    options.path = file
    options.settings = None
    options.request_token = False
    check_path(target, options)
    if _Interview(target).answer("try the endpoint (yes or no)", one_of(("yes", "no")), "no") == "yes":
        options.request_token = True
        check_path(target, options)
    target.screen.say(
        "\nRead both files. Add the response to wrong credentials as an example, and what the vendor's pages say of "
        "limits, revocation and scopes: CONTRIBUTING.md, Add a provider."
    )
    return Exit.DONE


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}.", exit_code=Exit.USAGE) from None


class _Interview:
    """Asks one thing at a time. Enter takes what stands in brackets."""

    def __init__(self, target: Target) -> None:
        self._screen = target.screen

    def answer(self, prompt: str, read: Callable[[str], T], default: str = "", *, help_text: str = "") -> T:
        """The answer as `read` returns it. Asks again where it raises ValueError."""
        if help_text:
            self._screen.say(f"\n{help_text}", "dim")
        while True:
            text = input(f"{prompt}{f' [{default}]' if default else ''}: ").strip() or default
            try:
                return read(text)
            except ValueError as error:
                self._screen.say(f"It {error}.", "yellow")

    def draft(self, name: str) -> Draft:
        title = self.answer("title", _some, help_text="The vendor and, if it has several ways to get a token, which.")
        page = self.answer("documentation", _page, help_text="The vendor's page about getting a token.")
        proof = self.answer(
            "proof",
            one_of(PROOFS),
            PROOFS[-1],
            help_text="documented: you transcribe request and response from that page. reported: from elsewhere.",
        )
        sample = self._paste("request", read_sample, "The sample request: a curl command, or the HTTP request as text.")
        response = self._paste("response", _response, "The sample response: its body.")
        url = self.answer(
            "url",
            _some,
            sample.url,
            help_text="What differs from account to account stands in braces, as in https://{shop}.example.com/token.",
        )
        draft = Draft(name, title, page, sample, url, proof, datetime.now(UTC).date(), response=response)
        for setting in dict.fromkeys(IN_URL.findall(url)):
            draft.settings[setting] = self.answer(
                setting, _some, help_text=f"An invented value of {setting}, for the example."
            )
        self._read_values(draft)
        self._read_response(draft)
        return draft

    def _paste(self, prompt: str, read: Callable[[str], T], help_text: str) -> T:
        """Several lines, up to one with a full stop alone. Asks again where `read` raises ValueError."""
        while True:
            self._screen.say(f"\n{help_text} End with a line that is a full stop.", "dim")
            lines = [input(f"{prompt}: ")]
            while lines[-1].strip() != END:
                lines.append(input())
            try:
                return read("\n".join(lines[:-1]))
            except ValueError as error:
                self._screen.say(f"This cannot be read: {error}.", "yellow")

    def _read_values(self, draft: Draft) -> None:
        """What each value of the request is: a credential, the scope, a setting, or the same for everybody."""
        sample = draft.sample
        if sample.basic is not None:
            draft.secrets |= dict(zip(CREDENTIALS, sample.basic, strict=False))
        for place, values in (("field", sample.fields), ("query parameter", sample.query), ("header", sample.headers)):
            for name, value in values.items():
                self._read_value(draft, place, name, value)

    def _read_value(self, draft: Draft, place: str, name: str, value: Any) -> None:
        if name == "scope":
            draft.replaced[name] = "{scope}"
        elif name in CREDENTIALS:
            draft.secrets[name] = str(value)
            draft.replaced[name] = f"{{secret:{name}}}"
        elif name != "grant_type" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            looks_secret = CREDENTIAL_NAME.search(name.lower().replace("-", "_")) or "key" in name.lower()
            meaning = self.answer(
                "meaning (fixed, setting or secret)",
                one_of(MEANINGS),
                MEANINGS[-1] if looks_secret else MEANINGS[0],
                help_text=f"The {place} {name}: the same for everybody, a setting of each connection, or a credential?",
            )
            own_name = re.sub(r"\W", "_", name)
            if meaning == "secret":
                draft.secrets[own_name] = str(value)
                draft.replaced[name] = f"{{secret:{own_name}}}"
            elif meaning == "setting":
                draft.settings[own_name] = str(value)
                draft.replaced[name] = f"{{{own_name}}}"

    def _read_response(self, draft: Draft) -> None:
        paths = dict(_paths(draft.response))
        if not paths:
            draft.token = ""
            return
        guess = next((path for word in TOKEN_NAMES for path in paths if _last(path).lower() == word), "")

        def token_path(text: str) -> str:
            if not isinstance(paths.get(text), str):
                raise ValueError("must be the path of a text in the response, such as data.access_token")
            return text

        draft.token = self.answer("token", token_path, guess, help_text="Where the token stands in the response.")
        draft.expiry = self._read_expiry(paths)
        draft.header = self.answer(
            "header",
            _header,
            BEARER,
            help_text="What callers of the vendor's API send. {token} is the token.",
        )

    def _read_expiry(self, paths: Mapping[str, Any]) -> tuple[str, str] | None:
        guess = next((path for path in paths if path in EXPIRY_FIELDS), "")
        guess = guess or next((path for path in paths if EXPIRY_NAME.search(_last(path))), "none")

        def expiry_path(text: str) -> str:
            if text != "none" and text not in paths:
                raise ValueError("must be a path in the response, or none")
            return text

        path = self.answer("expiry", expiry_path, guess, help_text="Where it stands how long the token is valid.")
        if path == "none":
            return None
        if path in EXPIRY_FIELDS:
            return path, ""
        forms = [form for form in EXPIRY_FORMS if form != "none"]
        return path, self.answer("unit", one_of(forms), forms[0], help_text=f"One of {', '.join(forms)}.")


def _paths(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted paths of all texts and numbers in a JSON object."""
    if isinstance(data, dict):
        for name, value in data.items():
            if "." not in name:
                yield from _paths(value, f"{prefix}.{name}" if prefix else name)
    elif prefix and isinstance(data, (str, int, float)):
        yield prefix, data


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _some(text: str) -> str:
    if not text:
        raise ValueError("is required")
    return text


def _page(text: str) -> str:
    return absolute_url(text.partition("#")[0], query=True) and text


def _header(text: str) -> str:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon and "{token}" in value):
        raise ValueError("must be a header with {token}, such as X-Access-Token: {token}")
    return text


def _response(text: str) -> Any:
    if not text.strip():
        raise ValueError("it is empty")
    return read_response(text)
