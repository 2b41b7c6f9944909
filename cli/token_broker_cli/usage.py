"""The commands and their options, their help, and what to print after a typing error."""

import argparse
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from token_broker_cli import (
    __version__,
    apply,
    audit,
    connect,
    connection_list,
    connection_settings,
    connection_trials,
    connections,
    credential_sources,
    doctor,
    export,
    providers,
    token_find,
    tokens,
)
from token_broker_cli.agent.command import agent
from token_broker_cli.completion import SHELLS
from token_broker_cli.problems import MEANINGS, Exit, Problem
from token_broker_cli.severity import STATES
from token_broker_cli.target import Target

PROG: Final = "token-broker"
OVERVIEW: Final = """\
commands:
  token PROVIDER NAME             a valid token (--header, --export)
  token find                      is a leaked token one of ours, and who received it?
  revoke PROVIDER NAME            purge tokens, and revoke them at the provider
  agent                           serve tokens to this user's programs, in any language

  connections                     the state of each, the worst first (--watch, --state, --provider)
  connections list | ls           the same
  connections add                 add one: asks for its settings, tries it, keeps it if it works
  connections apply FILE          settings kept in git: show and store what differs (--prune, --credentials)
  connections export              the settings of all, as `apply` takes them
  connections set | edit          change settings of one: SETTING=VALUE, or in an editor
  connections history             the last versions of its settings (--diff, --restore)
  connections show | check        settings and tokens of one; do its credentials work?
  connections connect             a person's consent: opens the browser, shows what was granted
  connections disconnect          end that consent
  connections rotate              new credentials, tried before they are used
  connections suspend | resume    callers get no tokens until it is resumed
  connections remove              delete settings and tokens; --secret also deletes the secret (--yes)

  providers                       the catalogue
  providers show NAME             what a connection of a provider needs
  providers check FILE            check a provider file, or all in a directory, against its examples
                                  --try: a real token
  providers new NAME              write such a file from a sample request and response
  console                         the connections as pages in the browser (--read-only)
  audit                           who got which token, and who changed what
  doctor                          what is wrong, and what to do
  completion SHELL                completion of commands and names for bash, zsh or fish
"""
EXIT_CODES: Final = "exit codes:\n" + "".join(f"  {code.value:<4} {meaning}\n" for code, meaning in MEANINGS.items())


class Parser(argparse.ArgumentParser):
    """Raises Problem instead of ending the process, and says what to type. `example`: a valid command line."""

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
            return f"Choose one of: {', '.join(known)}. {self.prog} --help shows more."
        return (f"Type: {self.example}\n" if self.example else "") + f"{self.prog} --help shows more."


def parse(argv: list[str]) -> argparse.Namespace:
    """The options. `run` is the function that runs the command. Raises Problem."""
    if argv[:1] == ["complete"]:
        # The words of an unfinished command line, options among them.
        return argparse.Namespace(**DEFAULTS | {"command": "complete", "words": argv[2:]})
    # `token find` looks like `token PROVIDER`. No provider has this name.
    words = [word for word in argv if not word.startswith("-")]
    if words[:2] == ["token", "find"]:
        position = argv.index("token")
        rest = argv[position + 1 :]
        rest.remove("find")
        argv = [*argv[:position], "token-find", *rest]
    options, extra = parser().parse_known_args(argv, argparse.Namespace(**DEFAULTS))
    if extra:
        raise _unexpected(options, extra)
    return _with_name(options)


def _with_name(options: argparse.Namespace) -> argparse.Namespace:
    """The options with a connection's two names, also if they were typed as one: unidy/eu-main."""
    if "assignments" not in options and not getattr(options, "is_of_connection", False):
        return options
    provider, slash, name = str(options.provider).partition("/")
    if slash:
        if options.name is not None:
            if "assignments" not in options:
                raise _unexpected(options, [options.name])
            options.assignments.insert(0, options.name)
        options.provider = provider
        options.name = name
    if options.name is None or options.name == "":
        options.leaf.error("the following arguments are required: NAME")
    if "assignments" in options and not options.assignments:
        options.leaf.error("the following arguments are required: SETTING=VALUE")
    return options


def parser() -> Parser:
    """All commands. The overview replaces argparse's own list of them."""
    top = Parser(
        PROG,
        description="Operates the token broker: connections, credentials, tokens, incidents.\n\n" + OVERVIEW,
        epilog=EXIT_CODES,
        usage=f"{PROG} COMMAND [options]",
        example=f"{PROG} connections --local",
        parents=[_shared()],
    )
    top.add_argument("--version", action="version", version=f"{PROG} {__version__}", help="print the version")
    commands = top.add_subparsers(
        prog=PROG, metavar="COMMAND", dest="command", help=argparse.SUPPRESS, parser_class=Parser
    )
    _add_token_commands(commands)
    _add_agent(commands)
    _add_connection_commands(commands)
    _add_provider_commands(commands)
    _add_other_commands(commands)
    return top


DEFAULTS: Final = dict.fromkeys(
    (
        *("target", "profile", "region", "stack", "url", "aws_endpoint", "secret_prefix", "run", "command", "leaf"),
        *("state", "provider_filter"),
    )
) | {"local": False, "json": False, "watch": False}


def _shared() -> argparse.ArgumentParser:
    """The options of every command. They may stand before or after it, so their defaults are in DEFAULTS."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    which = shared.add_argument_group("which broker")
    which.add_argument(
        "--target",
        metavar="NAME",
        help="a target of ~/.config/token-broker.toml (default: TOKEN_BROKER_TARGET, else the file's default)",
    )
    which.add_argument("--local", action="store_true", help="the stack of `make run`")
    which.add_argument(
        "--stack", metavar="NAME", help="the stack in AWS (default: TOKEN_BROKER_STACK, else token-broker)"
    )
    which.add_argument("--profile", metavar="NAME", help="AWS profile (default: AWS_PROFILE)")
    which.add_argument("--region", metavar="NAME", help="AWS region (default: AWS_REGION)")
    which.add_argument("--url", help="the API's URL (default: TOKEN_BROKER_URL, else the stack's output ApiUrl)")
    which.add_argument("--secret-prefix", metavar="P", help="prefix of the secrets' names (default: the stack's)")
    which.add_argument("--aws-endpoint", metavar="URL", help="another AWS endpoint (default: AWS_ENDPOINT_URL)")
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


def _list_options(command: Parser) -> None:
    # They may stand before or after `list`, so their defaults are in DEFAULTS.
    command.add_argument(
        "--watch", action="store_true", default=argparse.SUPPRESS, help="refresh until Ctrl-C, as far as it fits"
    )
    command.add_argument("--state", choices=STATES, default=argparse.SUPPRESS, help="only connections in this state")
    command.add_argument(
        "--provider",
        dest="provider_filter",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="only connections of this provider",
    )


def _names(command: Parser) -> None:
    command.add_argument("provider", metavar="PROVIDER", help="such as unidy; `token-broker providers` lists them")
    command.add_argument(
        "name", metavar="NAME", nargs="?", help="the connection's name, such as eu-main; or both as unidy/eu-main"
    )
    command.set_defaults(is_of_connection=True)


def _trial_options(command: Parser) -> None:
    command.add_argument("--wait", action="store_true", help="wait until the next trial is allowed")
    command.add_argument("--force", action="store_true", help="run the trial although it revokes the live token")


def _add_token_commands(commands: Any) -> None:
    token = _command(
        commands,
        "token",
        tokens.token,
        "print a valid token",
        'curl -H "$(token-broker token unidy eu-main --header)" https://id.example.com/api/users',
    )
    _names(token)
    form = token.add_mutually_exclusive_group()
    form.add_argument("--header", action="store_true", help="print the request header")
    form.add_argument("--export", action="store_true", help='print variables: eval "$(token-broker token … --export)"')
    token.add_argument("--scope", help="items separated by spaces (default: the connection's)")
    token.add_argument(
        "--min-ttl", type=int, metavar="S", help="seconds for which it must be valid, 0 to 3600 (default: 30)"
    )
    token.add_argument("--rejected", metavar="TOKEN_ID", help="report this token as rejected by the provider's API")

    find = _command(
        commands,
        "token-find",
        token_find.find,
        "is a leaked token one of ours, and who received it? Reads it from a prompt or from standard input",
        "token-broker token find < leaked.txt",
        prog=f"{PROG} token find",
    )
    find.add_argument("--days", type=int, default=7, metavar="N", help="days of the log to search (default: 7)")
    find.add_argument("--log", type=Path, metavar="FILE", help="a log file or a directory instead of CloudWatch")

    revoke = _command(
        commands,
        "revoke",
        connections.revoke,
        "purge a connection's tokens, and revoke them at the provider where it can",
        "token-broker revoke unidy eu-main --suspend",
    )
    _names(revoke)
    revoke.add_argument("--scope", help="only the tokens of this scope set")
    revoke.add_argument("--suspend", action="store_true", help="suspend the connection first, so that none is issued")


def _add_agent(commands: Any) -> None:
    serve = _command(
        commands,
        "agent",
        agent,
        "serve tokens over HTTP to the programs of this user on this machine, until it is stopped",
        "token-broker agent --allow unidy/eu-main --socket /run/user/1000/token-broker.sock",
    )
    serve.add_argument(
        "--allow",
        action="append",
        metavar="PROVIDER/NAME",
        help="a connection that callers get tokens of; can be given several times",
    )
    serve.add_argument("--allow-any", action="store_true", help="callers get tokens of every connection")
    place = serve.add_mutually_exclusive_group()
    place.add_argument("--socket", type=Path, metavar="PATH", help="a Unix socket; only this user can open it")
    place.add_argument("--port", type=int, metavar="N", help="a port on 127.0.0.1; needs --password-file")
    serve.add_argument(
        "--password-file",
        type=Path,
        metavar="PATH",
        help="callers send the password in this file as X-Agent-Password; made if there is none",
    )
    serve.add_argument("--check", action="store_true", help="only check that an agent responds there")


def _add_connection_commands(commands: Any) -> None:
    group = _command(
        commands,
        "connections",
        connection_list.listing,
        "the state of each connection, the worst first",
        "token-broker connections --watch",
    )
    _list_options(group)
    actions = group.add_subparsers(prog=f"{PROG} connections", metavar="ACTION", dest="action", parser_class=Parser)
    _list_options(
        _command(
            actions,
            "list",
            connection_list.listing,
            "the same as `connections` alone",
            "token-broker connections list --state failing --provider unidy",
            aliases=["ls"],
        )
    )

    add = _command(
        actions,
        "add",
        connection_trials.add,
        "add a connection: asks for settings and credentials, tries them, and keeps nothing if the trial fails",
        "token-broker connections add unidy eu-main",
    )
    _names(add)
    add.add_argument(
        "--from-file", type=Path, metavar="FILE", help="settings (TOML or .json); credentials are asked for"
    )
    _trial_options(add)
    add.add_argument("--credentials", metavar="SOURCE", help=credential_sources.HELP)

    apply_file = _command(
        actions,
        "apply",
        apply.apply,
        "store the settings of a TOML file where they differ; secrets and `suspended` stay as they are",
        "token-broker connections apply connections.toml --check",
    )
    apply_file.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a table [provider.name] of settings for each connection; - reads a pipe",
    )
    apply_file.add_argument("--check", action="store_true", help="only show differences; exit code 4 if there are any")
    apply_file.add_argument(
        "--prune", action="store_true", help="remove the connections that the file does not name; secrets stay"
    )
    apply_file.add_argument(
        "--credentials",
        metavar="SOURCE",
        help=f"{credential_sources.HELP}: a table [provider.name] for each connection; tried, then kept",
    )
    _yes(apply_file)

    export_all = _command(
        actions,
        "export",
        export.export,
        "print the settings of every connection as TOML (or --json), which `connections apply` takes",
        "token-broker connections export > connections.toml",
    )
    export_all.add_argument(
        "--provider", dest="provider_filter", metavar="NAME", help="only connections of this provider"
    )
    export_all.add_argument(
        "--table",
        metavar="NAME",
        help="read a DynamoDB table instead of the broker, such as one restored from a backup",
    )

    for name, run, what in (
        ("show", connections.show, "show settings, deadlines and each token's state"),
        ("suspend", connections.suspend, "callers get no tokens until `resume`"),
        ("resume", connections.resume, "end a suspension"),
    ):
        _names(_command(actions, name, run, what, f"token-broker connections {name} unidy eu-main"))

    check = _command(
        actions,
        "check",
        connection_trials.check,
        "try the pending credentials, else the current ones, and keep no token",
        "token-broker connections check unidy eu-main",
    )
    rotate = _command(
        actions,
        "rotate",
        connection_trials.rotate,
        "replace the credentials, if the new ones work and nobody else changes the secret",
        "token-broker connections rotate unidy eu-main",
    )
    for command in (check, rotate):
        _names(command)
        _trial_options(command)
    rotate.add_argument("--credentials", metavar="SOURCE", help=credential_sources.HELP)
    rotate.add_argument(
        "--replace-pending", action="store_true", help="replace the pending version of another rotation"
    )

    consent = _command(
        actions,
        "connect",
        connect.connect,
        "obtain a person's consent: opens the vendor's page, shows account and granted scope, and asks to confirm",
        "token-broker connections connect google-user eu-main",
    )
    _names(consent)
    consent.add_argument("--device", action="store_true", help="by a code that the person enters on any device")
    consent.add_argument("--no-browser", action="store_true", help="print the URL instead of opening the browser")
    consent.add_argument("--yes", action="store_true", help="confirm without asking, but not another account")
    consent.add_argument(
        "--new-account",
        action="store_true",
        help="the consent may be of another account than the connection's: do not ask a second time",
    )
    end = _command(
        actions,
        "disconnect",
        connect.disconnect,
        "end a person's consent, at the provider too where it can, and drop the tokens",
        "token-broker connections disconnect google-user eu-main",
    )
    _names(end)
    end.add_argument("--yes", action="store_true", help="do not ask")

    remove = _command(
        actions,
        "remove",
        connections.remove,
        "delete settings and tokens",
        "token-broker connections remove unidy eu-main --secret",
    )
    _names(remove)
    remove.add_argument("--secret", action="store_true", help="delete the secret, too, after --recovery-days")
    remove.add_argument(
        "--recovery-days",
        type=int,
        choices=range(7, 31),
        default=30,
        metavar="N",
        help="days for which a deleted secret can be restored, 7 to 30 (default: 30)",
    )
    _yes(remove)
    _add_settings_commands(actions)


def _add_settings_commands(actions: Any) -> None:
    change = _command(
        actions,
        "set",
        connection_settings.set_values,
        "change single settings; SETTING= removes one",
        "token-broker connections set unidy/eu-main lifetime_s=3600 keep_warm=always",
    )
    _names(change)
    change.add_argument(
        "assignments", metavar="SETTING=VALUE", nargs="*", help="a list with spaces between its items, params as JSON"
    )
    edit = _command(
        actions,
        "edit",
        connection_settings.edit,
        "change the settings in an editor (VISUAL, EDITOR)",
        "token-broker connections edit unidy eu-main",
    )
    _names(edit)
    history = _command(
        actions,
        "history",
        connection_settings.history,
        "the last 20 versions of the settings: when, by whom, what changed",
        "token-broker connections history unidy eu-main --diff",
    )
    _names(history)
    history.add_argument("--diff", action="store_true", help="show what each version changed")
    history.add_argument("--restore", metavar="VERSION", help="put a version again, named by its first digits")
    _yes(history)


def _yes(command: Parser) -> None:
    command.add_argument("--yes", action="store_true", help="do it without a question")


def _add_provider_commands(commands: Any) -> None:
    group = _command(commands, "providers", providers.listing, "list the catalogue", "token-broker providers")
    actions = group.add_subparsers(prog=f"{PROG} providers", metavar="ACTION", dest="action", parser_class=Parser)
    show = _command(
        actions,
        "show",
        providers.show,
        "show what a connection of a provider needs",
        "token-broker providers show unidy",
    )
    show.add_argument("name", metavar="NAME", help="such as unidy")

    check = _command(
        actions,
        "check",
        providers.check,
        "check a provider file, or all in a directory, and run the examples; needs no broker",
        "token-broker providers check acme.toml --try",
    )
    check.add_argument("path", metavar="FILE", type=Path, help="a file such as acme.toml, or a directory of them")
    check.add_argument(
        "--try",
        dest="request_token",
        action="store_true",
        help="request a token, revoke it if possible, store nothing; --local allows http and loopback",
    )
    check.add_argument(
        "--settings",
        metavar="FILE",
        type=Path,
        help="with --try: a connection's settings (TOML or .json); without it they are asked for",
    )

    new = _command(
        actions,
        "new",
        providers.new,
        "write a provider's file and examples from the vendor's sample request and response",
        "token-broker providers new acme --directory our-providers/token_broker_providers",
    )
    new.add_argument("name", metavar="NAME", help="the provider's name, such as acme")
    new.add_argument(
        "--directory", metavar="DIR", type=Path, default=Path(), help="where to write (default: the current directory)"
    )


def _add_audit(commands: Any) -> None:
    command = _command(
        commands,
        "audit",
        audit.audit,
        "who got which token, and who changed what: the audit log, equal entries in one row",
        "token-broker audit --caller orders --since today",
    )
    command.add_argument("--since", default="24h", help="30min, 2h, 7d, today (UTC), or a moment (default: 24h)")
    command.add_argument(
        "--caller", metavar="WHO", help="an ARN as allowed_callers has it, or a role's or user's name; * is a wildcard"
    )
    command.add_argument("--connection", metavar="PROVIDER/NAME", help="such as unidy/eu-main")
    command.add_argument(
        "--token-id", metavar="ID", help="of a returned token; - reads a token from a prompt or a pipe"
    )
    command.add_argument("--event", metavar="NAME", help="such as token_returned or settings_changed")
    command.add_argument("--log", type=Path, metavar="PATH", help="a log file or a directory instead of CloudWatch")


def _add_other_commands(commands: Any) -> None:
    _add_audit(commands)
    console = _command(
        commands,
        "console",
        _console,
        "show and change the connections in the browser, on 127.0.0.1",
        "token-broker console --stack token-broker",
    )
    console.add_argument("--read-only", action="store_true", help="show everything and change nothing")
    console.add_argument("--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (default: a free one)")
    console.add_argument("--no-browser", action="store_true", help="print a link instead of opening the browser")
    console.add_argument("--log", type=Path, metavar="PATH", help="a log file or a directory instead of CloudWatch")
    _command(commands, "doctor", doctor.doctor, "check everything that the broker needs", "token-broker doctor --local")
    shell = _command(
        commands,
        "completion",
        None,
        "print a shell's completion script",
        'eval "$(token-broker completion bash)"',
    )
    shell.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def _console(target: Target, options: argparse.Namespace) -> Exit:
    """`console`: its libraries are imported for it only."""
    from token_broker_cli.console.command import console

    return console(target, options)


def _unexpected(options: argparse.Namespace, extra: list[str]) -> Problem:
    """The problem for arguments that no command takes. Their values are not repeated: one could be a secret."""
    leaf: Parser | None = options.leaf
    if options.run is token_find.find:
        what = "Do not pass the token as an argument: others can read the command line."
        return Problem(what, "Paste it at the prompt, or: token-broker token find < leaked.txt", exit_code=Exit.USAGE)
    unknown = [word.partition("=")[0] for word in extra if word.startswith("-")]
    if leaf and unknown:
        known = [option for action in leaf._actions for option in action.option_strings]  # noqa: SLF001  # argparse has no public list
        near = difflib.get_close_matches(unknown[0], known, 1)
        todo = f"Did you mean {near[0]}? " if near else ""
        return Problem(
            f"{leaf.prog} has no option {unknown[0]}.", f"{todo}{leaf.prog} --help shows more.", exit_code=Exit.USAGE
        )
    example = f"Type: {leaf.example}" if leaf else f"{PROG} --help shows more."
    return Problem("The command does not take that many arguments.", example, exit_code=Exit.USAGE)
