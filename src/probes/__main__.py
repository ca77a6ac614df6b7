"""Commands of this package.

python -m probes doctor MODEL [--engine …]
"""

import sys

from tyro.extras import subcommand_cli_from_dict

from probes import doctor
from probes.errors import ProbesError


def main() -> None:
    """Run a command. An error of this package ends it with one line and exit code 1."""
    try:
        doctor.main(subcommand_cli_from_dict({"doctor": doctor.Doctor}, prog="python -m probes"))
    except ProbesError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
