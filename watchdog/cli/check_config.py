"""`epoll-watchdog check-config`: everything that is wrong with a configuration, or what it guards and how.

It checks as the daemon does, but for secrets that only the daemon's unit is given (credentials, environment): here they
are warnings. Before a reload the unit itself runs it, with all that the daemon has but its credentials.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchdog.config import DEFAULT_FILE, ConfigError, ConfigInvalid
from watchdog.settings import format_duration

if TYPE_CHECKING:
    from watchdog.config import Config, Service


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_FILE)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.option(
    "--without-credentials",
    is_flag=True,
    help="Look at no credential, and at every other secret as the daemon does; the unit does so before a reload.",
)
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON schema of the file, and check nothing.")
def command(file: Path, as_json: bool, without_credentials: bool, as_schema: bool) -> None:
    """Check a configuration, and touch nothing.

    FILE is /etc/epoll-watchdog/config.toml unless told; the conf.d/*.toml beside it belong to it. Every error is
    told at once: in which file, where in it, what is wrong and what would be right. The daemon refuses to start with
    any of them, and keeps its old configuration when told to reload.

    \b
    Exit status:
      0  the configuration is sound; warnings may have been told
      1  it is not
      2  wrong usage

    \b
    Examples:
      epoll-watchdog check-config
      epoll-watchdog check-config ./config.toml && systemctl reload epoll-watchdog
      epoll-watchdog check-config --schema > config.schema.json
    """
    if as_schema:
        from watchdog.config.schema import schema

        click.echo(json.dumps(schema(), indent=2))
        return
    # The check needs pydantic. This command ends soon, so it checks itself instead of starting the child.
    from watchdog.config.check import check
    from watchdog.config.secrets import Secrets

    try:
        config = check(file, Secrets.BESIDE if without_credentials else Secrets.TRY)
    except ConfigInvalid as invalid:
        click.echo(_errors_as_json(invalid.errors) if as_json else _errors(invalid.errors), err=not as_json)
        raise SystemExit(1) from None
    click.echo(_json(config) if as_json else _summary(file, config))


def _errors(errors: tuple[ConfigError, ...]) -> str:
    return "\n".join([*map(str, errors), f"{len(errors)} error{'s' if len(errors) > 1 else ''}"])


def _errors_as_json(errors: tuple[ConfigError, ...]) -> str:
    told = [
        {"file": str(error.file), "path": error.path, "message": error.message, "hint": error.hint} for error in errors
    ]
    return json.dumps({"valid": False, "errors": told}, indent=2)


def _json(config: Config) -> str:
    value: dict[str, Any] = {
        "valid": True,
        "files": list(map(str, config.files)),
        "warnings": list(config.warnings),
        "services": {
            service.name: {
                "guards": _guarded(service),
                "mode": service.policy.mode,
                "interval_s": service.policy.interval,
                "probes": {name: probe.type for name, probe in service.probes.items()},
            }
            for service in config.services.values()
        },
        "channels": {channel.name: channel.type for channel in config.channels.values()},
    }
    return json.dumps(value, indent=2)


def _summary(file: Path, config: Config) -> str:
    others = len(config.files) - 1
    files = f"{file} and {others} in conf.d" if others else str(file)
    lines = [f"warning: {warning}" for warning in config.warnings]
    lines.append(f"{files}: sound")
    for service in config.services.values():
        lines.append(f"  service {service.name}: {_guarded(service)}, mode {service.policy.mode}")
        probes = ", ".join(f"{name} ({probe.type})" for name, probe in service.probes.items())
        lines.append(f"    every {format_duration(service.policy.interval)}: {probes}")
    lines += [f"  channel {channel.name}: {channel.type}" for channel in config.channels.values()]
    return "\n".join(lines)


def _guarded(service: Service) -> str:
    return str(service.target)
