"""Parses the command line, runs the command, and prints why it failed. `Exit` lists the exit codes."""

import sys

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.completion import SCRIPTS, Names, candidates
from token_broker_cli.problems import Exit, Problem, problem_of
from token_broker_cli.screen import Screen, safe
from token_broker_cli.target import Target
from token_broker_cli.target_file import with_target
from token_broker_cli.usage import parse, parser
from token_broker_client.errors import TokenBrokerError


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    screen = Screen(as_json="--json" in arguments)
    try:
        return _run(arguments, screen)
    except Problem as problem:
        screen.fail(problem.what, problem.todo, problem.code)
        return problem.exit_code
    except (KeyboardInterrupt, EOFError):
        screen.say("\nInterrupted.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The program that reads the output has stopped, as `head` does.
        sys.stderr.close()
        return Exit.DONE


def _run(arguments: list[str], screen: Screen) -> int:
    options = parse(arguments)
    if options.command == "completion":
        sys.stdout.write(SCRIPTS[options.shell] + "\n")
        return Exit.DONE
    if options.command == "complete":
        return _complete(options.words)
    if options.run is None:
        parser().print_help()
        return Exit.DONE if not arguments else Exit.USAGE
    target = Target(with_target(options), screen, given=options)
    try:
        code: Exit = options.run(target, target.options)
    except (TokenBrokerError, ClientError, BotoCoreError) as error:
        raise problem_of(error, is_local=target.is_local) from error
    return code


def _complete(words: list[str]) -> Exit:
    """Prints what the last word can become. A broker that cannot be asked has no names."""
    try:
        found = candidates(parser(), words, lambda: Names.of(words))
    except (Problem, TokenBrokerError, ClientError, BotoCoreError):
        return Exit.NO
    sys.stdout.write("".join(f"{safe(word)}\n" for word in found))
    return Exit.DONE
