"""Commands typed as a user types them, in an empty folder of their own, for the tests of the cli room."""

import json

from typer.testing import CliRunner

from sona.cli.app import app

FAQ = [
    {"id": "password", "text": "To reset a password, open Settings, choose Security, and follow the link."},
    {"id": "invoice", "text": "Invoices are sent on the first of the month; find old ones under Billing."},
    {"id": "hours", "text": "Our office is open from nine to five on weekdays."},
]


def entered(folder, monkeypatch):
    """Go to `folder`, where nothing that the machine has set is known, and return it."""
    monkeypatch.chdir(folder)
    for name in ("SONA_DB", "SONA_DATA", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return folder


def sona(*arguments, code=0, **options):
    """Return what a command that ends with `code` says."""
    result = CliRunner().invoke(app, list(arguments), **options)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def said(*arguments, **options):
    """Return the lines of a command."""
    return sona(*arguments, **options).stdout.splitlines()


def parsed(*arguments, **options):
    """Return what a command says in JSON."""
    return json.loads(sona(*arguments, "--json", **options).stdout)


def error_of(*arguments, code=1, **options):
    """Return the last line of a command's complaint; it says nothing else, and shows no traceback."""
    result = sona(*arguments, code=code, **options)
    assert result.stdout == "", result.stdout
    assert "Traceback" not in result.stderr, result.stderr
    return result.stderr.splitlines()[-1]


def remember_faq():
    """Remember the FAQ in the database of the folder one is in."""
    sona("remember", "-", "--jsonl", input="\n".join(map(json.dumps, FAQ)))
