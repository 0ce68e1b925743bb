"""The one line that bad input gets, from a function or from the command line."""

import pytest

from tfew_jax.cli import main


def message_of(function, *args, error=ValueError, **kwargs) -> str:
    """What a call raises, which is one line."""
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def error_of(capsys, *argv) -> str:
    """What a command that fails with status 2 prints, which is one line."""
    capsys.readouterr()
    try:
        status = main.main([str(word) for word in argv])
    except SystemExit as stop:  # of argparse
        status = stop.code
    assert status == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line
