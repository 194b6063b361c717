"""The help texts: commands in groups, and neither braces nor Python types for arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPE = re.compile(r" <\S+>$")
_REQUIRED = re.compile(r" *\[required\]$")  # the usage line says so
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class _Conversion:
    """Converts the value of a parameter as typer would, but without pydantic, which is slow to import.

    A version of typer without this interface uses its own.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 - the signature of typer
        """Return the value of a parameter: converted by its parser, or a text or list of texts as it is."""
        parser = param.type_descriptor.parameter_info.parser
        return value if value is None or parser is None else parser(value)


def _is_simple(param: Any) -> bool:
    """Return whether a parameter has a parser of its own, or is a text or a list of texts."""
    described = getattr(param, "type_descriptor", None)
    return described is not None and (
        described.parameter_info.parser is not None or described.annotation in {str, list[str]}
    )


class Command(TyperCommand):
    """A command. Its usage line has the form of other programs: NAME is required, [KEY]... is not."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            if _is_simple(param):
                param._runtime_param = _Conversion()  # type: ignore[attr-defined]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                rows[parameter.param_type_name].append((_TYPE.sub("", record[0]), _REQUIRED.sub("", record[1])))
        for kind, records in rows.items():
            if records:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(records)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help, not given: typer imports pydantic to convert None."""
        return _not_given(super().get_help_option(ctx))


class CommandGroup(TyperGroup):
    """The program. `sections` are the headings of its help text, each with its commands."""

    sections: Mapping[str, Mapping[str, object]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, under their headings."""
        width = max(len(name) for names in self.sections.values() for name in names)
        limit = formatter.width - width - 4  # the indentation, and the gap between the columns
        for heading, names in self.sections.items():
            with formatter.section(heading):
                commands = {name: self.get_command(ctx, name) for name in names}
                formatter.write_dl(
                    [(name.ljust(width), each.get_short_help_str(limit)) for name, each in commands.items() if each]
                )

    def get_help_option(self, ctx: Any) -> Any:
        """See `Command.get_help_option`."""
        return _not_given(super().get_help_option(ctx))


def _not_given(option: Any) -> Any:
    if option is not None:
        option.default = False
    return option
