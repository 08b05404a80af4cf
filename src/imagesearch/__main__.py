"""``python -m imagesearch``: the same as the ``imagesearch`` command."""

from imagesearch.frontends.cli import main

if __name__ == "__main__":
    main()
