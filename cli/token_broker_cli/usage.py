"""The commands and their options, and what is said to somebody who typed something else."""

import argparse
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import shtab

from token_broker_cli import as_code, connections, doctor, finding, onboarding, tokens
from token_broker_cli.problems import MEANINGS, Exit, Problem

PROG: Final = "token-broker"
SHELLS: Final = ("bash", "zsh", "tcsh")
OVERVIEW: Final = """\
commands:
  token PROVIDER NAME             a valid token (--header, --export)
  token find                      is a leaked token one of ours, and who got it?
  revoke PROVIDER NAME            drop tokens, and end them at the provider

  connections                     each one's state (--watch)
  connections add                 a new one: asks for what it needs, tries it, keeps it if it works
  connections apply FILE          settings kept in git: show the difference, put what differs
  connections show | check        one whole; are its credentials good?
  connections rotate              new credentials, tried before they are used
  connections suspend | resume    no tokens until further notice
  connections remove              settings and tokens, with --secret the secret

  providers                       the catalogue
  providers show NAME             what a connection of one needs
  doctor                          what is wrong, and what to do
  completion SHELL                completion for bash, zsh or tcsh
"""
EXIT_CODES: Final = "exit codes:\n" + "".join(f"  {code.value:<4} {meaning}\n" for code, meaning in MEANINGS.items())


class Parser(argparse.ArgumentParser):
    """Raises Problem instead of ending the process, and says what to type. `example`: a line that works."""

    def __init__(self, prog: str | None = None, *, example: str = "", **kwargs: Any) -> None:
        super().__init__(prog, **kwargs)
        self.allow_abbrev = False
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.example = example

    def error(self, message: str) -> NoReturn:
        raise Problem(self._what(message), self._todo(message), exit_code=Exit.USAGE)

    def _what(self, message: str) -> str:
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            names = missing[1].split(", ")
            return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing."
        if wrong := re.fullmatch(r"argument \S+: invalid choice: '?(.*?)'? \(choose from .*\)", message):
            return f"{self.prog} has no {wrong[1]}."
        return message[:1].upper() + message[1:] + "."

    def _todo(self, message: str) -> str:
        wrong = re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if wrong:
            known = re.findall(r"[\w-]+", wrong[2])
            if near := difflib.get_close_matches(wrong[1], known, 1):
                return f"Did you mean: {self.prog} {near[0]}"
            return f"There are: {', '.join(known)}. {self.prog} --help tells more."
        return (f"Type: {self.example}\n" if self.example else "") + f"{self.prog} --help tells more."


def parse(argv: list[str]) -> argparse.Namespace:
    """The options, with `run` as what carries the command out. Raises Problem."""
    # `find` stands where `token` takes a provider: no provider can be called so.
    words = [word for word in argv if not word.startswith("-")]
    if words[:2] == ["token", "find"]:
        at = argv.index("token")
        rest = argv[at + 1 :]
        rest.remove("find")
        argv = [*argv[:at], "token-find", *rest]
    options, extra = parser().parse_known_args(argv, argparse.Namespace(**DEFAULTS))
    if extra:
        raise _too_much(options, extra)
    return options


def parser(*, listed: bool = False) -> Parser:
    """All commands. `listed`: argparse's own list of them too, which completion goes by; the overview says more."""
    top = Parser(
        PROG,
        description="For those who answer for the token broker: connections, tokens, incidents.\n\n" + OVERVIEW,
        epilog=EXIT_CODES,
        usage=f"{PROG} COMMAND [options]",
        example=f"{PROG} connections --local",
        parents=[_shared()],
    )
    commands = top.add_subparsers(
        prog=PROG, metavar="COMMAND", dest="command", help=None if listed else argparse.SUPPRESS, parser_class=Parser
    )
    _add_tokens(commands)
    _add_connections(commands)
    _add_rest(commands)
    return top


DEFAULTS: Final = dict.fromkeys(
    ("profile", "region", "stack", "url", "aws_endpoint", "secret_prefix", "run", "command", "leaf")
) | {"local": False, "json": False}


def _shared() -> argparse.ArgumentParser:
    """The options of every command. They may stand before or after it, so none has a default of its own."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    which = shared.add_argument_group("which broker")
    which.add_argument("--local", action="store_true", help="the one of `make run`")
    which.add_argument("--stack", metavar="NAME", help="the stack in AWS (TOKEN_BROKER_STACK; token-broker)")
    which.add_argument("--profile", metavar="NAME", help="AWS profile (AWS_PROFILE)")
    which.add_argument("--region", metavar="NAME", help="AWS region (AWS_REGION)")
    which.add_argument("--url", help="the API's URL (TOKEN_BROKER_URL; the stack's output ApiUrl)")
    which.add_argument("--secret-prefix", metavar="P", help="first part of secrets' names (the stack's parameter)")
    which.add_argument("--aws-endpoint", metavar="URL", help="another AWS endpoint (AWS_ENDPOINT_URL)")
    output = shared.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="JSON on standard output, and errors as JSON")
    return shared


def _command(commands: Any, name: str, run: Callable[..., Exit] | None, what: str, example: str, **more: Any) -> Parser:
    made: Parser = commands.add_parser(
        name, help=what, description=what[:1].upper() + what[1:] + ".", example=example, parents=[_shared()], **more
    )
    made.epilog = f"example:\n  {example}"
    made.set_defaults(run=run, leaf=made)
    return made


def _names(command: Parser) -> None:
    command.add_argument("provider", metavar="PROVIDER", help="such as unidy; `token-broker providers` lists them")
    command.add_argument("name", metavar="NAME", help="the connection's name, such as eu-main")


def _trying(command: Parser) -> None:
    command.add_argument("--wait", action="store_true", help="if it was tried in the last 5 min, wait until it may be")
    command.add_argument("--force", action="store_true", help="also where the trial ends the live token")


def _add_tokens(commands: Any) -> None:
    token = _command(
        commands,
        "token",
        tokens.token,
        "a valid token on standard output",
        'curl -H "$(token-broker token unidy eu-main --header)" https://id.example.com/api/users',
    )
    _names(token)
    form = token.add_mutually_exclusive_group()
    form.add_argument("--header", action="store_true", help="as the header that the provider's API wants")
    form.add_argument("--export", action="store_true", help='as variables: eval "$(token-broker token … --export)"')
    token.add_argument("--scope", help="items separated by spaces (the connection's)")
    token.add_argument("--min-ttl", type=int, metavar="S", help="seconds that it has to last, 0 to 3600 (30)")
    token.add_argument("--rejected", metavar="TOKEN_ID", help="the token_id that the provider's API refused")

    find = _command(
        commands,
        "token-find",
        finding.find,
        "is a leaked token one of ours, and who got it? It is asked for, or read from standard input",
        "token-broker token find < leaked.txt",
        prog=f"{PROG} token find",
    )
    find.add_argument("--days", type=int, default=7, metavar="N", help="how far to look back in the log (7)")
    find.add_argument("--log", type=Path, metavar="FILE", help="a log of get_token in place of CloudWatch's")

    revoke = _command(
        commands,
        "revoke",
        connections.revoke,
        "drop a connection's tokens, and end them at the provider where it can",
        "token-broker revoke unidy eu-main --suspend",
    )
    _names(revoke)
    revoke.add_argument("--scope", help="only the tokens of this scope set")
    revoke.add_argument(
        "--suspend", action="store_true", help="suspend the connection first: else callers get new ones"
    )


def _add_connections(commands: Any) -> None:
    group = _command(
        commands, "connections", connections.listing, "each connection's state", "token-broker connections --watch"
    )
    group.add_argument("--watch", action="store_true", help="until Ctrl-C, anew every 2 s")
    actions = group.add_subparsers(prog=f"{PROG} connections", metavar="ACTION", dest="action", parser_class=Parser)

    add = _command(
        actions,
        "add",
        onboarding.add,
        "add a connection: asks for settings and credentials, tries them, and keeps all of it or nothing",
        "token-broker connections add unidy eu-main",
    )
    _names(add)
    add.add_argument("--from-file", type=Path, metavar="FILE", help="settings (TOML, or .json); credentials are asked")
    _trying(add)

    apply = _command(
        actions,
        "apply",
        as_code.apply,
        "put the settings of a TOML file where they differ; secrets and `suspended` stay as they are",
        "token-broker connections apply connections.toml --check",
    )
    apply.add_argument("file", type=Path, metavar="FILE", help="a table [provider.name] of settings per connection")
    apply.add_argument("--check", action="store_true", help="only show the difference; exit code 4 if there is one")

    for name, run, what in (
        ("show", connections.show, "settings, deadlines and each token's state"),
        ("suspend", connections.suspend, "no tokens until `resume`"),
        ("resume", connections.resume, "give out tokens again"),
    ):
        _names(_command(actions, name, run, what, f"token-broker connections {name} unidy eu-main"))

    check = _command(
        actions,
        "check",
        onboarding.check,
        "try the pending credentials, else the current ones, and keep nothing",
        "token-broker connections check unidy eu-main",
    )
    rotate = _command(
        actions,
        "rotate",
        onboarding.rotate,
        "new credentials, tried, and used only if they work and nobody changed the secret meanwhile",
        "token-broker connections rotate unidy eu-main",
    )
    for command in (check, rotate):
        _names(command)
        _trying(command)
    rotate.add_argument("--replace-pending", action="store_true", help="give up another rotation's pending version")

    remove = _command(
        actions,
        "remove",
        connections.remove,
        "remove settings and tokens",
        "token-broker connections remove unidy eu-main --secret",
    )
    _names(remove)
    remove.add_argument("--secret", action="store_true", help="delete the secret too, at once and for good")


def _add_rest(commands: Any) -> None:
    catalogue = _command(commands, "providers", connections.providers, "the catalogue", "token-broker providers")
    actions = catalogue.add_subparsers(prog=f"{PROG} providers", metavar="ACTION", dest="action", parser_class=Parser)
    show = _command(
        actions,
        "show",
        connections.provider,
        "what a connection of a provider needs",
        "token-broker providers show unidy",
    )
    show.add_argument("name", metavar="NAME", help="such as unidy")
    _command(commands, "doctor", doctor.doctor, "look at all that the broker stands on", "token-broker doctor --local")
    completion = _command(
        commands,
        "completion",
        None,
        "print a shell's completion",
        'eval "$(token-broker completion bash)"',
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def completion(shell: str) -> str:
    """The script that completes commands and options in a shell."""
    script: str = shtab.complete(parser(listed=True), shell)
    return script


def _too_much(options: argparse.Namespace, extra: list[str]) -> Problem:
    """What was typed too much. A value is not repeated: it can be a secret, which others see on the command line."""
    leaf: Parser | None = options.leaf
    if options.run is finding.find:
        what = "The token is not given as an argument: others can read the command line."
        return Problem(what, "Paste it when asked, or: token-broker token find < leaked.txt", exit_code=Exit.USAGE)
    unknown = [word.partition("=")[0] for word in extra if word.startswith("-")]
    if leaf and unknown:
        known = [option for action in leaf._actions for option in action.option_strings]  # noqa: SLF001  # it has no other list
        near = difflib.get_close_matches(unknown[0], known, 1)
        todo = f"Did you mean {near[0]}? " if near else ""
        return Problem(
            f"{leaf.prog} has no option {unknown[0]}.", f"{todo}{leaf.prog} --help tells more.", exit_code=Exit.USAGE
        )
    example = f"Type: {leaf.example}" if leaf else f"{PROG} --help tells more."
    return Problem("Something was given that the command does not take.", example, exit_code=Exit.USAGE)
