"""Errands on the command line: interface services, also beside a running hub.

Owns the words of `python -m hub interface ...`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import click
from msgspec.structs import replace

from handlers.outbound import check_address

from .clock import SystemClock
from .commands import all_of, read_settings, save, with_store
from .effects import Delete
from .errors import Invalid
from .interface import Dialect, Interface, changed, hash_token, new_token, register, standing
from .ports import Store
from .seed import name_of, read_entries
from .settings import Settings
from .webhooks import push_secret


async def enter_interface(store: Store, name: str, **fields: Any) -> tuple[str, Interface]:
    """Register an interface service, or give a known one a new token; the token and the record.

    `fields` are those of the record that are not left as they are.

    Raises:
        Invalid: a field has a value that it cannot have.
    """
    token = new_token()
    known = await store.get(Interface, name)
    record = register(name, token, SystemClock().wall())
    if known is not None:
        record = replace(changed(known, **fields, token_hash=record.token_hash, enabled=True), pending=False)
    elif fields:
        record = replace(changed(record, **fields), version=record.version)
    await save(store, record, record.version - 1)
    return token, record


async def known_interface(store: Store, name: str) -> Interface:
    """Raises click.ClickException where no service has this name."""
    record = await store.get(Interface, name)
    if record is None:
        raise click.ClickException(f"there is no interface service {name}")
    return record


def placed(url: str, settings: Settings) -> dict[str, str]:
    """Address and path of a service, out of the two in one.

    Raises:
        Invalid: code bad_url.
    """
    split = urlsplit(check_address(url, settings.interface_networks))
    return {"address": f"{split.scheme}://{split.netloc}"} | ({"path": split.path} if split.path else {})


def tell_secrets(settings: Settings, token: str, record: Interface) -> None:
    """Show what is shown once."""
    if record.dialect != "seed":
        click.echo(token)
    if record.dialect == "push":
        click.echo(push_secret(settings.jwt_secret.encode(), record))


@click.group()
def interface() -> None:
    """Interface services (workers)."""


@interface.command("add")
@click.argument("name")
@click.option("--push", metavar="URL", help="The hub calls the service at this address, instead of being called.")
@click.option("--seed", metavar="URL", help="The same for a service that speaks the older dialect.")
@click.option("--path", help="Where it is called, if the address does not say so.")
@click.option("--model", "models", multiple=True, help="A model that it has, NAME or NAME:ALIAS; as often as needed.")
@click.option("--slots", type=click.IntRange(1, 64), help="Tasks at once, where the service cannot say so; 1.")
@click.option("--note", help="A line for admins.")
def interface_add(
    name: str, push: str | None, seed: str | None, path: str | None, models: tuple[str, ...], slots: int | None,
    note: str | None,
) -> None:
    """Register an interface service (or renew a known one) and show its token, this once.

    For one that is called with --push, a second line shows the secret that it checks the hub's calls with. One in the
    older dialect has neither.
    """
    if push is not None and seed is not None:
        raise click.UsageError("--push and --seed are two dialects: give one")
    settings = read_settings()

    async def errand(store: Store) -> tuple[str, Interface]:
        fields: dict[str, Any] = {"path": path, "models": models or None, "slots": slots, "note": note}
        dialect: Dialect = "push" if push is not None else "seed"
        if (url := push or seed) is not None:
            fields = {"dialect": dialect, **fields, **placed(url, settings)} | ({"path": path} if path else {})
        return await enter_interface(store, name, **{key: value for key, value in fields.items() if value is not None})

    token, record = with_store(settings, errand)
    tell_secrets(settings, token, record)
    if record.dialect == "seed":
        click.echo(f"registered {name} at {record.address}{record.path}")


@interface.command("list")
def interface_list() -> None:
    """Show all registered services."""
    for record in with_store(read_settings(), lambda store: all_of(store, Interface)):
        place = f"{record.address}{record.path}" if record.address else "connects by itself"
        models = ",".join(record.models) or "-"
        click.echo(f"{record.id}  {standing(record)}  {record.dialect}  {place}  {models}  {record.note}".rstrip())


def changing(name: str, help: str, said: str, **fields: Any) -> None:
    """Add a command that sets some fields of a record."""

    @interface.command(name, help=help)
    @click.argument("name")
    def command(name: str) -> None:
        async def errand(store: Store) -> None:
            record = await known_interface(store, name)
            await save(store, changed(record, **fields), record.version)

        with_store(read_settings(), errand)
        click.echo(f"{name} {said}")


changing("pause", "Offer a service nothing until it is resumed.", "is paused", paused=True)
changing(
    "resume", "Offer it tasks again, or let in one that waits for this.", "may work", paused=False, draining=False,
    pending=False, enabled=True,
)
changing("drain", "Ask a service to finish what it has and leave.", "is drained", draining=True)


@interface.command("rotate")
@click.argument("name")
def interface_rotate(name: str) -> None:
    """Give a service a new token and show it, this once; the old one opens no new connection."""
    settings = read_settings()
    token = new_token()

    async def errand(store: Store) -> Interface:
        record = await known_interface(store, name)
        if record.dialect == "seed":
            raise click.ClickException("services in the older dialect have no token")
        after = changed(record, token_hash=hash_token(token))
        await save(store, after, record.version)
        return after

    tell_secrets(settings, token, with_store(settings, errand))


@interface.command("remove")
@click.argument("name")
def interface_remove(name: str) -> None:
    """Forget a service; what it was doing is done by another."""

    async def errand(store: Store) -> None:
        record = await known_interface(store, name)
        await store.commit([Delete(Interface, record.id)])

    with_store(read_settings(), errand)
    click.echo(f"{name} is removed")


@interface.command("import")
@click.argument("file", type=click.File("rb"))
def interface_import(file: Any) -> None:
    """Register many services in the older dialect out of a JSON file.

    A list of {address, name?, path?, models?, slots?, note?}. Known ones, by name or address, are changed. Where one
    makes no sense, none is taken.
    """
    settings = read_settings()
    try:
        entries = [checked(entry, settings) for entry in read_entries(json.load(file))]
    except (ValueError, RecursionError, Invalid) as error:
        raise click.ClickException(f"this file makes no sense: {error}") from None
    for line in with_store(settings, lambda store: import_all(store, entries)):
        click.echo(line)


def checked(entry: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One entry of an import file as fields of a record, and `name`.

    Raises:
        Invalid: a field has a value that it cannot have.
    """
    fields = {**entry, "dialect": "seed", "address": check_address(entry["address"], settings.interface_networks)}
    name = str(fields.pop("name", "") or name_of(fields["address"]))
    changed(register(name, "", 0.0), **fields)
    return {"name": name, **fields}


async def import_all(store: Store, entries: list[dict[str, Any]]) -> list[str]:
    """Register or change each; a line for each."""
    lines = []
    for entry in entries:
        name, fields = entry["name"], {key: value for key, value in entry.items() if key != "name"}
        known = await store.find(Interface, address=fields["address"]) or await store.get(Interface, name)
        if known is not None:
            await save(store, changed(known, **fields, pending=False), known.version)
        else:
            await enter_interface(store, name, **fields)
        lines.append(f"{'changed' if known else 'added'} {known.id if known else name}")
    return lines
