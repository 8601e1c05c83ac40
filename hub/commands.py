"""Errands on the command line: how each runs, and accounts, also beside a running hub.

Owns the words of `python -m hub user ...`. Every errand opens the database for itself and changes
records alone; a running hub notices within seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from store import environment, system
from store.embedded import Embedded, EmbeddedError, attached
from store.mongo import MongoStore, connect, connect_for_commits
from store.passwords import Passwords

from . import account, logs
from .account import Role, User
from .clock import SystemClock, rfc3339
from .effects import Outcome, Save
from .errors import HubError
from .ids import new_id
from .ports import Store
from .settings import BadSettings, Settings

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PAGE = 500
log = structlog.get_logger(__name__)


# --- how an errand runs -----------------------------------------------------------------------------------------


def read_settings() -> Settings:
    """The settings, or a clear end."""
    try:
        settings = environment.settings(os.environ, ROOT)
    except BadSettings as error:
        raise click.ClickException("these settings do not work:\n  " + "\n  ".join(error.problems)) from None
    logs.configure(settings.log_format, settings.log_level)
    return settings


def perform(work: Any) -> Any:
    """Run an errand to its end; what goes wrong is one line for people."""
    try:
        return asyncio.run(work)
    except (EmbeddedError, HubError) as error:
        raise click.ClickException(str(error)) from None


def with_store(settings: Settings, errand: Callable[[Store], Awaitable[T]]) -> T:
    """Do an errand in the hub's database."""

    async def work() -> T:
        async with opened_store(settings) as store:
            return await errand(store)

    done: T = perform(work())
    return done


@asynccontextmanager
async def opened_store(settings: Settings, supervise: bool = False) -> AsyncIterator[MongoStore]:
    """The configured database, or the embedded one: kept running when `supervise`, else shared for an errand."""
    async with AsyncExitStack() as stack:
        uri = settings.mongodb
        if uri is None and supervise:
            embedded = Embedded(settings.data_dir)
            await embedded.start()
            stack.push_async_callback(embedded.stop)
            uri = embedded.uri
        elif uri is None:
            uri = await stack.enter_async_context(attached(settings.data_dir))
        client, commits = connect(uri), connect_for_commits(uri)
        stack.callback(client.close)
        stack.push_async_callback(commits.close)
        store = MongoStore(client, settings.db_name, new_id(), commits)
        if supervise and settings.mongodb is not None:
            advice = system.outdated(await store.server_version())
            if advice:
                log.warning("outdated_mongod", advice=advice)
        await store.prepare()
        yield store


async def save(store: Store, record: Any, previous: int = 0) -> None:
    """Make one record durable.

    Raises:
        click.ClickException: it exists already, or somebody else changed it just now.
    """
    [outcome] = await store.commit([Save(record, previous)])
    if outcome is not Outcome.DONE:
        raise click.ClickException("that one exists already" if not previous else "it was changed just now, try again")


async def all_of(store: Store, kind: type[T]) -> list[T]:
    """All records of a kind, in the order of their ids."""
    found: list[T] = []
    before: str | None = None
    while page := await store.page(kind, PAGE, before):
        found += page
        last: Any = page[-1]
        before = last.id
    return found[::-1]


# --- accounts ---------------------------------------------------------------------------------------------------


async def hashed(password: str) -> str:
    """The hash of a new password.

    Raises:
        Invalid: it is too short or too long.
    """
    account.check_new_password(password)
    hashing = Passwords()
    try:
        return await hashing.hash(password)
    finally:
        hashing.close()


async def add_user(store: Store, email: str, name: str, admin: bool, password: str) -> None:
    """Create an account."""
    role: Role = "admin" if admin else "user"
    password_hash = await hashed(password)
    await save(store, account.new_user(new_id(), email, name, role, password_hash, SystemClock().wall()))


async def known_user(store: Store, email: str) -> User:
    """Raises click.ClickException where nobody has this e-mail address."""
    user = await store.find(User, email=account.email_key(email))
    if user is None:
        raise click.ClickException(f"there is no user {email}")
    return user


@click.group()
def user() -> None:
    """Accounts."""


password_option = click.password_option(help="Asked for when not given, or set HUB_PASSWORD.", envvar="HUB_PASSWORD")


@user.command("add")
@click.argument("email")
@click.option("--name", default="", help="How the person is called.")
@click.option("--admin", is_flag=True, help="May see and change everything.")
@password_option
def user_add(email: str, name: str, admin: bool, password: str) -> None:
    """Create an account."""
    with_store(read_settings(), lambda store: add_user(store, email, name, admin, password))
    click.echo(f"created {email}")


@user.command("list")
def user_list() -> None:
    """Show all accounts."""
    for found in with_store(read_settings(), lambda store: all_of(store, User)):
        state = (" disabled" if found.disabled else "") + (f" weight {found.weight}" if found.weight > 1 else "")
        click.echo(f"{found.email}  {found.role}{state}  since {rfc3339(found.created_at)[:10]}  {found.name}")


@user.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(["user", "admin"]))
def user_role(email: str, role: Role) -> None:
    """Make somebody an admin, or a user again."""

    async def errand(store: Store) -> None:
        found = await known_user(store, email)
        await save(store, account.with_access(found, role, found.disabled, found.weight), found.version)

    with_store(read_settings(), errand)
    click.echo(f"{email} is {role} now")


@user.command("weight")
@click.argument("email")
@click.argument("weight", type=click.IntRange(1, account.MOST_WEIGHT))
def user_weight(email: str, weight: int) -> None:
    """Let somebody have so many times the workers' time of others who wait."""

    async def errand(store: Store) -> None:
        found = await known_user(store, email)
        await save(store, account.with_access(found, found.role, found.disabled, weight), found.version)

    with_store(read_settings(), errand)
    click.echo(f"{email} has the weight {weight} now")


@user.command("password")
@click.argument("email")
@password_option
def user_password(email: str, password: str) -> None:
    """Give somebody a new password; all their sessions end."""

    async def errand(store: Store) -> None:
        found = await known_user(store, email)
        await save(store, account.with_password(found, await hashed(password)), found.version)

    with_store(read_settings(), errand)
    click.echo(f"{email} has a new password")
