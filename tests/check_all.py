"""All checks and all tests: python tests/check_all.py. Each stage runs even if an earlier one failed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
STAGES = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("lint-imports",),
    ("pyright", "--pythonpath", sys.executable),
    # the job takes two cores for five minutes; all else goes on beside it. What hangs ends the tests: it is not begun again.
    ("pytest", "-n2", "--dist=loadfile", "--max-worker-restart=0"),
)


def main() -> int:
    """Run the stages; print which failed; 0 if none did."""
    failed = []
    for tool, *arguments in STAGES:
        print(f"== {tool} {' '.join(arguments)}", flush=True)
        if subprocess.run([BIN / tool, *arguments], cwd=ROOT, check=False).returncode:
            failed.append(tool)
    print(f"failed: {', '.join(failed)}" if failed else "every stage passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
