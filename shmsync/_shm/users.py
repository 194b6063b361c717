"""Users of the host, by name and by id."""

from __future__ import annotations

import pwd

from shmsync.errors import InvalidArgumentError


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
    if isinstance(user, int) and not isinstance(user, bool) and user >= 0:
        return user
    if isinstance(user, str):
        if user.isdecimal():
            return int(user)
        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            raise InvalidArgumentError(f"owner: this host has no user {user!r}; pass a user name or id") from None
    raise InvalidArgumentError(f"owner must be a user name or id, not {user!r}")
