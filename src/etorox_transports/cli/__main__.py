"""Lets `python -m etorox_transports.cli` be the command."""

from __future__ import annotations

import sys

from etorox_transports.cli import main

if __name__ == "__main__":
    sys.exit(main())
