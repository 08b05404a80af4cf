"""``python -m imagesearch``: the same as the ``imagesearch`` command."""

from imagesearch.frontends.cli.app import main

if __name__ == "__main__":
    main()
