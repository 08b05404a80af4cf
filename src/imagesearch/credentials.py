"""Which token a database gets: the one that was set together with its address, and never in the clear.

A ``config.yaml`` that lies in a folder of pictures from somebody else is read when a command runs there. It must
not be able to name a server that then receives the token in the user's environment.
"""

from __future__ import annotations

import logging

from imagesearch.config import Config
from imagesearch.errors import ConfigError
from imagesearch.stores.address import DatabaseAddress

_log = logging.getLogger(__name__)

# Settings that decide who can read what is sent, besides the address.
_DECIDING = ("allow_insecure_token", "tls_ca", "tls_server_name")


def token_for(config: Config, address: DatabaseAddress, given: str | None = None) -> str | None:
    """The token to send to a database; None for none.

    A configured token goes to the configured address only, and only if the same file set both, or both were
    set by flags, environment variables, or a file that was named by one of these. If it is not sent, a warning
    says so.

    Args:
        given: a token that was given for this address, in place of the configured one.

    Raises:
        ConfigError: the token, or a password in the address, would be sent to another machine without encryption.
    """
    token = given if given is not None else _configured(config, address)
    if not token and not address.has_credentials:
        return None
    if not address.is_confidential and not _may_be_insecure(config):
        raise ConfigError(
            f"{address.shown}: a token or password would cross the network in the clear; use https://, or set"
            " milvus.allow_insecure_token: true if the network is to be trusted"
        )
    return token


def _configured(config: Config, address: DatabaseAddress) -> str | None:
    secret = config.milvus.token.get_secret_value() if config.milvus.token else ""
    if not secret or address.is_local or address.place != config.database_address.place:
        return None
    if _set_together(config):
        return secret
    _log.warning(
        "the token (%s) is not sent to %s (%s), because a token goes only to the address that it was set together"
        " with: set IMAGESEARCH_MILVUS__URI and IMAGESEARCH_MILVUS__TOKEN, or name the file with --config",
        config.source_of("milvus.token"),
        address.shown,
        config.source_of("milvus.uri"),
    )
    return None


def _set_together(config: Config) -> bool:
    token, uri = config.source_of("milvus.token"), config.source_of("milvus.uri")
    by_user = [source == "flag" or source.startswith("environment ") for source in (token, uri)]
    named_file = uri == config.file and not config.file_was_found
    together = token == uri or all(by_user) or (by_user[0] and named_file)
    return together and (_is_found(config, "token") or not any(_is_found(config, key) for key in _DECIDING))


def _may_be_insecure(config: Config) -> bool:
    """Whether somebody allowed it who also decided on what is sent, or at least named the file that allows it."""
    by_a_found_file = _is_found(config, "allow_insecure_token") and not _is_found(config, "uri")
    return config.milvus.allow_insecure_token and not by_a_found_file


def _is_found(config: Config, key: str) -> bool:
    """Whether a setting, other than its default, comes from a file that nobody named."""
    return (
        config.file_was_found
        and config.source_of(f"milvus.{key}") == config.file
        and getattr(config.milvus, key) not in (None, False)
    )
