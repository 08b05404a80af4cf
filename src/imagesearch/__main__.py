"""The ``imagesearch`` command, also as ``python -m imagesearch``."""

import sys


def main() -> None:
    """Run the command line in this process; also where Ctrl-C comes while its modules are still imported."""
    try:
        from imagesearch.frontends.cli.app import main as run

        run()
    except KeyboardInterrupt:
        if sys.stderr is not None:  # the shell may have closed it
            sys.stderr.write("imagesearch: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
