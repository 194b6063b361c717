"""Users of the host, by name and by id."""

from __future__ import annotations

import pwd

from shmsync.errors import InvalidArgumentError

_END_OF_IDS = 1 << 32
_MAX_DIGITS = 20  # more than an id has


def user_name(uid: int) -> str:
    """Describe a user for a message."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def user_id(user: str | int) -> int:
    """Return the id of a user, given by name or, as for chown(1), by number.

    Raises:
        InvalidArgumentError: there is no user of that name.
    """
    if isinstance(user, str) and user.isascii() and user.isdecimal():
        user = int(user[:_MAX_DIGITS])
    if isinstance(user, int) and not isinstance(user, bool) and 0 <= user < _END_OF_IDS:
        return user
    if isinstance(user, str):
        try:
            return pwd.getpwnam(user).pw_uid
        except (KeyError, ValueError):  # ValueError: a NUL, or a lone surrogate
            raise InvalidArgumentError(f"owner: this host has no user {user!r}; pass a user name or id") from None
    raise InvalidArgumentError(f"owner must be a user name or id, not {user!r}")
