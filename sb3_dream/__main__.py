"""``python -m sb3_dream``, the same as the command ``sb3-dream``."""

from sb3_dream.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
