"""The server for language models (Model Context Protocol), read-only over :class:`imagesearch.ImageSearch`."""
