"""Parses the command line, runs the command, and prints why it failed. `Exit` lists the exit codes."""

import sys

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.problems import Exit, Problem, problem_of
from token_broker_cli.screen import Screen
from token_broker_cli.target import Target
from token_broker_cli.usage import completion, parse, parser
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
        sys.stdout.write(completion(options.shell) + "\n")
        return Exit.DONE
    if options.run is None:
        parser().print_help()
        return Exit.DONE if not arguments else Exit.USAGE
    target = Target(options, screen)
    try:
        code: Exit = options.run(target, options)
    except (TokenBrokerError, ClientError, BotoCoreError) as error:
        raise problem_of(error, is_local=target.is_local) from error
    return code
