"""Errands on the command line: interface services, also beside a running hub.

Owns the words of `python -m hub interface ...`.
"""

from __future__ import annotations

import json
from collections import Counter
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
from .seed import another_name, name_of, read_entries
from .settings import Settings
from .webhooks import push_secret


async def enter_interface(store: Store, name: str, **fields: Any) -> tuple[str, Interface]:
    """Register an interface service, or give a known one a new token; the token and the record.

    `fields` are those of the record that are not left as they are.

    Raises:
        Invalid: a field has a value that it cannot have.
        click.ClickException: another service has the address.
    """
    holder = await store.find(Interface, address=fields["address"]) if "address" in fields else None
    if holder is not None and holder.id != name:
        raise click.ClickException(f"{holder.id} has the address {holder.address}")
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


def placed(url: str, path: str | None, settings: Settings) -> dict[str, str]:
    """Address and path of a service; where no `path` is given, the URL is the two in one.

    Raises:
        Invalid: code bad_url.
    """
    address = check_address(url, settings.interface_networks)
    if path is not None:
        return {"address": address, "path": path}
    split = urlsplit(address)
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
@click.option("--path", help="Where it is called below the address; without it the address is taken to say so.")
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
            fields = {**fields, "dialect": dialect, **placed(url, path, settings)}
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
        check_unique(entries)
    except (ValueError, RecursionError, Invalid) as error:
        raise click.ClickException(f"this file makes no sense: {error}") from None
    for line in with_store(settings, lambda store: import_all(store, entries)):
        click.echo(line)


def checked(entry: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """One entry of an import file as fields of a record, and `name`, which may be empty.

    Raises:
        Invalid: a field has a value that it cannot have.
    """
    fields = {**entry, "dialect": "seed", **placed(entry["address"], entry.get("path"), settings)}
    name = fields.pop("name", "")
    changed(register(name or name_of(fields["address"]), "", 0.0), **fields)
    return {"name": name, **fields}


def check_unique(entries: list[dict[str, Any]]) -> None:
    """Raises ValueError where two entries have one name or address."""
    for field in ("name", "address"):
        for value, times in Counter(entry[field] for entry in entries if entry[field]).most_common(1):
            if times > 1:
                raise ValueError(f"{value} is in it twice")


async def import_all(store: Store, entries: list[dict[str, Any]]) -> list[str]:
    """Register or change each; a line for each.

    Raises:
        click.ClickException: one is known in another dialect; then none is taken.
    """
    for entry in entries:
        known = await known_as(store, entry)
        if known is not None and known.dialect != "seed":
            raise click.ClickException(f"{known.id} is known in another dialect, nothing was changed")
    return [await import_one(store, **entry) for entry in entries]


async def known_as(store: Store, entry: dict[str, Any]) -> Interface | None:
    """The service that an entry is about: by its address, or by the name that it gives."""
    found = await store.find(Interface, address=entry["address"])
    return found or (await store.get(Interface, entry["name"]) if entry["name"] else None)


async def import_one(store: Store, name: str, **fields: Any) -> str:
    """Register or change one; what to tell of it."""
    known = await known_as(store, {"name": name, **fields})
    if known is not None:
        await save(store, changed(known, **fields, pending=False), known.version)
        return f"changed {known.id}"
    if not name and await store.get(Interface, name := name_of(fields["address"])) is not None:
        name = another_name(name, fields["address"])
    await enter_interface(store, name, **fields)
    return f"added {name}"
