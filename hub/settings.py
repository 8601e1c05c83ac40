"""What an operator can set, each thing declared once.

Owns the names, defaults, units and rules of all settings, and the template that shows them to people. Reads neither
files nor the environment: the texts come in as a mapping (see store/environment).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import parsing
from .parsing import Network, Parser

SERVICE, ACCESS, DATABASE = "Service", "Accounts and access", "Database"
FILES, WORKERS, LOGS = "Files", "Interface services (workers)", "Logs and metrics"
GROUPS = {
    SERVICE: "Where the hub listens and how browsers and interface services reach it.",
    ACCESS: "Secrets have no default here: without them the hub does not start in production.",
    DATABASE: "With neither MONGODB_URI nor DB_HOST the hub runs a private MongoDB of its own under DATA_DIR.",
    FILES: "Folders may be relative to the project; sizes are megabytes of 1024 x 1024 bytes.",
    WORKERS: "How long a worker may be silent and how often a task is tried.",
    LOGS: "What the hub tells its operators.",
}
RESERVED_PATHS = frozenset({
    "api", "output", "posters", "static", "js", "css", "index.html", "livez", "readyz", "version", "metrics",
    "openapi.json",
})
LEAST_BYTES = {"JWT_SECRET": 32, "INTERFACE_IDENTIFICATION": 16, "METRICS_TOKEN": 16}
REQUIRED_SECRETS = ("JWT_SECRET", "INTERFACE_IDENTIFICATION")
PLACEHOLDERS = (
    "changeme", "changethis", "changeit", "yoursecret", "yourjwt", "youridentification", "yourtoken", "replaceme",
    "replacethis", "replacewith", "placeholder", "example", "mysecret", "topsecret", "supersecret", "1234567890",
)

Derive = Callable[[Mapping[str, Any]], Any]


class BadSettings(Exception):
    """Settings that the hub cannot start with; `problems` names each in one line, and shows no secret's value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing an operator can set.

    `default` is written as an operator would write it, "" for not set; where `derive` makes the value out of the
    settings above, `default` says so in words. `expects` finishes the sentence "expected ...".
    """

    group: str
    parse: Parser
    expects: str
    default: str
    help: str
    secret: bool = False
    derive: Derive | None = None
    name: str = ""


def setting(
    group: str, parse: Parser, expects: str, default: str, help: str, *, secret: bool = False,
    derive: Derive | None = None, unset: Any = None,
) -> Any:
    """Declare a setting as a field of `Settings`; `unset` is its value when it is not given and has no default."""
    declared = Setting(group, parse, expects, default, help, secret, derive)
    return field(repr=not secret, metadata={"setting": declared, "unset": unset})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings with their values: times in seconds, sizes in bytes, folders as absolute as the root given."""

    node_env: str = setting(
        SERVICE, parsing.choice("development", "production", "test"), "development, production or test",
        "development", "Production refuses weak secrets and listens on all interfaces.")
    app_env: str = setting(
        SERVICE, parsing.choice("development", "production", "test"), "development, production or test",
        "the same as NODE_ENV", "Another name for NODE_ENV; it is production if either of them says so.",
        derive=lambda got: got["NODE_ENV"])
    bind: str = setting(
        SERVICE, parsing.host, "an address or host name", "127.0.0.1 in development, 0.0.0.0 in production",
        "The address to listen on.", derive=lambda got: "0.0.0.0" if is_production(got) else "127.0.0.1")
    port: int = setting(
        SERVICE, parsing.whole(0, 65535), "a port number from 0 (any free port) to 65535", "6001",
        "The TCP port to listen on.")
    api_base_url: str = setting(
        SERVICE, parsing.url, "an address such as https://hub.example.org", "http://localhost:PORT",
        "Where browsers and interface services reach the hub; it answers to the host name in this, and to addresses.",
        derive=lambda got: f"http://localhost:{got['PORT']}")
    frontend_url: str = setting(
        SERVICE, parsing.url, "an address such as https://videos.example.org", "the same as API_BASE_URL",
        "Where the front-end is served, if not by the hub itself; its origin may call the API.",
        derive=lambda got: got["API_BASE_URL"])
    cors_origins: tuple[str, ...] = setting(
        SERVICE, parsing.listed(parsing.origin), "origins such as https://a.example.org, separated by commas; no *", "",
        "Further origins whose pages may call the API, separated by commas.", unset=())
    trusted_proxies: tuple[Network, ...] = setting(
        SERVICE, parsing.listed(parsing.network), "addresses or CIDR ranges, separated by commas", "",
        "Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by commas.", unset=())

    jwt_secret: str = setting(
        ACCESS, parsing.text, "at least 32 random bytes", "",
        "Signs users' tokens and links; at least 32 bytes, for example from: openssl rand -base64 48", secret=True,
        unset="")
    jwt_expires_in: int = setting(
        ACCESS, parsing.duration, "a duration such as 7d, 12h, 30m or a number of seconds, at least one minute", "7d",
        "How long a sign-in lasts: 7d, 12h, 30m; a bare number is seconds.")
    interface_identification: str = setting(
        ACCESS, parsing.text, "at least 16 random bytes", "",
        "The word that every interface service proves itself with; at least 16 bytes, the same on all of them.",
        secret=True, unset="")
    auto_register_interfaces: bool = setting(
        ACCESS, parsing.yes_or_no, "true or false", "false",
        "Whether an unknown interface service that knows INTERFACE_IDENTIFICATION is let in without an admin.")

    mongodb_uri: str | None = setting(
        DATABASE, parsing.mongodb_uri, "a connection string that starts with mongodb:// or mongodb+srv://", "",
        "The whole connection string; wins over DB_HOST, DB_PORT, DB_USER and DB_PASSWORD.", secret=True)
    db_host: str | None = setting(
        DATABASE, parsing.host, "a host name or address", "", "The host of your MongoDB.")
    db_port: int = setting(
        DATABASE, parsing.whole(1, 65535), "a port number from 1 to 65535", "27017", "Its TCP port.")
    db_user: str | None = setting(
        DATABASE, parsing.text, "a user name", "", "The database user, known to MongoDB's admin database.")
    db_password: str | None = setting(
        DATABASE, parsing.text, "a password", "", "That user's password, as it is (no percent-encoding).", secret=True)
    db_name: str = setting(
        DATABASE, parsing.name, "a database name of letters, digits, - and _", "video_segment",
        "The database to use.")

    data_dir: Path = setting(
        FILES, parsing.directory, "a folder", ".data", "The hub's own state: the private MongoDB, caches, locks.")
    upload_videos_dir: Path = setting(
        FILES, parsing.directory, "a folder", "uploads/videos", "Users' videos.")
    upload_url_path: str = setting(
        FILES, parsing.url_path, "a plain path such as videos", "videos", "The path under which videos are served.")
    upload_backgrounds_dir: Path = setting(
        FILES, parsing.directory, "a folder", "uploads/backgrounds", "Users' background pictures.")
    upload_backgrounds_url_path: str = setting(
        FILES, parsing.url_path, "a plain path such as backgrounds", "backgrounds",
        "The path under which backgrounds are served.")
    output_dir: Path = setting(
        FILES, parsing.directory, "a folder", "uploads/output", "Finished results.")
    upload_file_size_limit: int = setting(
        FILES, parsing.megabytes, "megabytes, more than 0", "100", "The largest file a user may upload, in megabytes.")
    result_file_size_limit: int = setting(
        FILES, parsing.megabytes, "megabytes, more than 0", "4 x UPLOAD_FILE_SIZE_LIMIT",
        "The largest file a worker may send back, in megabytes.",
        derive=lambda got: got["UPLOAD_FILE_SIZE_LIMIT"] * 4)
    user_storage_limit: int = setting(
        FILES, parsing.megabytes, "megabytes, more than 0", "100 x UPLOAD_FILE_SIZE_LIMIT",
        "How much the videos and backgrounds of one user may take up, in megabytes.",
        derive=lambda got: got["UPLOAD_FILE_SIZE_LIMIT"] * 100)
    user_files_limit: int = setting(
        FILES, parsing.whole(1, 1000000), "a whole number from 1 to 1000000", "1000",
        "How many videos and backgrounds one user may have.")
    user_uploads_limit: int = setting(
        FILES, parsing.whole(1, 10000), "a whole number from 1 to 10000", "100",
        "How many unfinished uploads one user may have at once.")
    upload_expires_in: int = setting(
        FILES, parsing.duration, "a duration such as 24h, 30m or a number of seconds, at least one minute", "24h",
        "How long an unfinished upload waits for its next byte: 24h, 7d, 30m; a bare number is seconds.")

    result_keep_days: float = setting(
        FILES, parsing.measured(86400.0, 0.0, 36500), "days, from 0 to 36500", "30",
        "Days after which a finished task's results are removed; 0 keeps them for ever.")

    heartbeat_timeout: float = setting(
        WORKERS, parsing.measured(60.0, 0.01, 1440), "minutes, from 0.01 to 1440", "3",
        "Minutes of silence after which an interface service that speaks the older dialect is offline.")
    lease_seconds: float = setting(
        WORKERS, parsing.measured(1.0, 0.05, 86400), "seconds, from 0.05 to 86400", "120",
        "Seconds that a worker keeps a task without renewing it.")
    heartbeat_seconds: float = setting(
        WORKERS, parsing.measured(1.0, 0.01, 86400), "seconds, from 0.01 to 86400", "half of LEASE_SECONDS",
        "Seconds between two heartbeats that the hub asks of a worker; shorter than LEASE_SECONDS.",
        derive=lambda got: got["LEASE_SECONDS"] / 2)
    stall_seconds: float = setting(
        WORKERS, parsing.measured(1.0, 0.05, 86400), "seconds, from 0.05 to 86400", "900",
        "Seconds without progress (a tenth of a percent, or a new phase) after which a task is taken from its worker, "
        "even if that renews its lease; in the older dialect, without a word about it.")
    max_running_per_user: int = setting(
        WORKERS, parsing.whole(0, 10000), "a whole number from 0 to 10000", "0",
        "How many tasks of one user run at once; 0 is any number.")
    max_viewers_per_user: int = setting(
        WORKERS, parsing.whole(1, 1_000_000), "a whole number from 1 to 1000000", "64",
        "How many live connections (websockets, streams, polls) one user may have at once.")
    offer_seconds: float = setting(
        WORKERS, parsing.measured(1.0, 0.05, 600), "seconds, from 0.05 to 600", "5",
        "Seconds a worker has to take an offered task.")
    max_attempts: int = setting(
        WORKERS, parsing.whole(1, 100), "a whole number from 1 to 100", "3",
        "How often a task is tried before it fails.")

    poll_gap_seconds: float = setting(
        WORKERS, parsing.measured(1.0, 0.01, 3600), "seconds, from 0.01 to 3600", "10",
        "Seconds after which a worker that polls, and does not ask any more, is offered nothing.")
    interface_networks: tuple[Network, ...] = setting(
        WORKERS, parsing.listed(parsing.network), "addresses or CIDR ranges, separated by commas",
        "127.0.0.0/8, ::1 in development, none in production",
        "Private networks in which the hub may call interface services by name, and its own machine; separated by "
        "commas. Public addresses, and private ones that an admin spells out, need not be here.",
        derive=lambda got: () if is_production(got) else parsing.listed(parsing.network)("127.0.0.0/8, ::1"))
    interface_models: tuple[str, ...] = setting(
        WORKERS, parsing.listed(parsing.model), "models such as matting, or matting:Fine matting, separated by commas",
        "", "The models of interface services in the older dialect that are registered without any.", unset=())
    shared_dir: Path = setting(
        WORKERS, parsing.directory, "a folder", "the same as OUTPUT_DIR",
        "The folder that the hub shares with interface services in the older dialect, who put their results there.",
        derive=lambda got: got["OUTPUT_DIR"])
    shared_dir_mode: int | None = setting(
        WORKERS, parsing.folder_mode, "four octal digits such as 2770", "",
        "The mode of a job's folder there, for services of other users; without it, what the umask leaves.")

    log_format: str = setting(
        LOGS, parsing.choice("console", "json"), "console or json", "console in development, json in production",
        "How log lines look.", derive=lambda got: "json" if is_production(got) else "console")
    log_level: str = setting(
        LOGS, parsing.choice("debug", "info", "warning", "error"), "debug, info, warning or error", "info",
        "The least important lines that are still logged.")
    metrics_token: str | None = setting(
        LOGS, parsing.text, "at least 16 random bytes", "",
        "A Bearer token that may read /metrics; without it only admins may.", secret=True)

    @property
    def production(self) -> bool:
        """Whether real people rely on this hub."""
        return "production" in (self.node_env, self.app_env)

    @property
    def mongodb(self) -> str | None:
        """The connection string, or None for the embedded MongoDB."""
        if self.mongodb_uri is not None or self.db_host is None:
            return self.mongodb_uri
        account, source = "", ""
        if self.db_user is not None and self.db_password is not None:
            account = f"{quote(self.db_user, safe='')}:{quote(self.db_password, safe='')}@"
            source = "?authSource=admin"
        return f"mongodb://{account}{parsing.bracketed(self.db_host)}:{self.db_port}/{source}"

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose pages may call the API: the hub's own, the front-end's and CORS_ORIGINS."""
        own = {parsing.origin_of(parsing.web_address(url)) for url in (self.api_base_url, self.frontend_url)}
        return frozenset(own.union(self.cors_origins))

    def describe(self) -> dict[str, str]:
        """Each setting as text for the start-up log; of a secret only whether it is set."""
        shown = {}
        for declared in SETTINGS:
            value = getattr(self, declared.name.lower())
            if declared.secret:
                shown[declared.name] = "set" if value else "not set"
            elif isinstance(value, tuple):
                shown[declared.name] = ", ".join(str(part) for part in value)
            else:
                shown[declared.name] = "" if value is None else str(value)
        return shown

    @classmethod
    def parse(cls, values: Mapping[str, str], root: Path = Path()) -> Settings:
        """Make settings of the texts in `values`; empty ones count as not given, unknown names are left alone.

        Relative folders are below `root`. In development, secrets that are not given are "".

        Raises:
            BadSettings: with every problem at once.
        """
        got: dict[str, Any] = {}
        problems: list[str] = []
        unread: set[str] = set()
        for each in fields(cls):
            declared = declaration(each)
            value = each.metadata["unset"]
            try:
                value = reading(declared, values, got, value)
            except (ValueError, ArithmeticError):
                problems.append(complaint(declared, values[declared.name].strip()))
                unread.add(declared.name)
                value = reading(declared, {}, got, value)
            got[declared.name] = root / value if isinstance(value, Path) else value
        problems += contradictions(got)
        if is_production(got):
            problems += weak_secrets({name: got[name] for name in LEAST_BYTES if name not in unread})
        if problems:
            raise BadSettings(problems)
        return cls(**{name.lower(): value for name, value in got.items()})


def declaration(each: Field[Any]) -> Setting:
    """The declaration behind a field of Settings, with its name."""
    declared: Setting = each.metadata["setting"]
    return replace(declared, name=each.name.upper())


SETTINGS = tuple(declaration(each) for each in fields(Settings))


def reading(declared: Setting, values: Mapping[str, str], got: Mapping[str, Any], unset: Any) -> Any:
    """The value of one setting: as given, or derived from what is read already, or its default.

    Raises:
        ValueError: the text given makes no sense.
    """
    given = values.get(declared.name, "").strip() or (declared.default if declared.derive is None else "")
    if given:
        return declared.parse(given)
    return unset if declared.derive is None else declared.derive(got)


def complaint(declared: Setting, given: str) -> str:
    """One line on a value that cannot be read; it shows the value unless that may be, or hold, a secret."""
    said = f"{declared.name}: expected {declared.expects}"
    if declared.secret or "@" in given:
        return said
    return f"{said}; it is {given[:80]!a}"


def is_production(got: Mapping[str, Any]) -> bool:
    return "production" in (got["NODE_ENV"], got["APP_ENV"])


def contradictions(got: Mapping[str, Any]) -> list[str]:
    """Settings that are fine alone and wrong together, one line each."""
    problems = []
    served = ("UPLOAD_URL_PATH", "UPLOAD_BACKGROUNDS_URL_PATH")
    for name in served:
        if got[name].split("/")[0] in RESERVED_PATHS:
            problems.append(f"{name}: the hub serves something else under /{got[name]}; choose another path")
    if got[served[0]] == got[served[1]]:
        problems.append(f"{served[1]}: must differ from {served[0]}")
    folders = ("DATA_DIR", "UPLOAD_VIDEOS_DIR", "UPLOAD_BACKGROUNDS_DIR", "OUTPUT_DIR")
    for at, name in enumerate(folders):
        problems += [f"{name}: must differ from {other}" for other in folders[:at] if got[name] == got[other]]
    if got["HEARTBEAT_SECONDS"] >= got["LEASE_SECONDS"]:
        problems.append("HEARTBEAT_SECONDS: must be shorter than LEASE_SECONDS, or leases end between heartbeats")
    if (got["DB_USER"] is None) != (got["DB_PASSWORD"] is None) and got["MONGODB_URI"] is None:
        problems.append("DB_USER and DB_PASSWORD: give both or neither")
    return problems


def weak_secrets(secrets: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the secrets of a production hub, one line each, without their values."""
    problems = []
    for name, secret in secrets.items():
        least = LEAST_BYTES[name]
        if not secret:
            if name in REQUIRED_SECRETS:
                problems.append(f"{name}: missing; production needs at least {least} random bytes")
        elif is_placeholder(secret):
            problems.append(f"{name}: is a placeholder; production needs at least {least} random bytes")
        elif len(secret.encode()) < least:
            problems.append(f"{name}: too short; production needs at least {least} random bytes")
    jwt_secret = secrets.get("JWT_SECRET")
    if jwt_secret and jwt_secret == secrets.get("INTERFACE_IDENTIFICATION"):
        problems.append("INTERFACE_IDENTIFICATION: must differ from JWT_SECRET, which no interface service may know")
    return problems


def is_placeholder(secret: str) -> bool:
    """Whether nobody chose this secret: the words of templates, one word again and again, few different characters."""
    letters = "".join(character for character in secret.casefold() if character.isalnum())
    repeated = secret in (secret + secret)[1:-1]
    return repeated or len(set(secret)) < 6 or any(words in letters for words in PLACEHOLDERS)


def template() -> str:
    """The text of .env.production: every setting with its help and default, and no secret."""
    lines = [
        "# Settings of the video segmentation hub in production.",
        "#",
        "# Read when NODE_ENV or APP_ENV is production; development reads .env. The environment wins over this file.",
        "# What starts with # shows the default: take the # away to change it. The names of the former Express",
        "# deployment mean what they meant there, so its file can be used as it is.",
        "#",
        "# Keep real secrets out of version control: set them in the environment, or in a copy only the hub can read.",
    ]
    for group, introduction in GROUPS.items():
        lines += ["", "", f"# ---- {group} " + "-" * (70 - len(group)), f"# {introduction}"]
        for declared in (each for each in SETTINGS if each.group == group):
            lines += ["", f"# {declared.help}"]
            if declared.derive is not None:
                lines += [f"# Default: {declared.default}.", f"# {declared.name}="]
            elif declared.name == "NODE_ENV":
                lines.append("NODE_ENV=production")
            elif declared.name in REQUIRED_SECRETS:
                lines.append(f"{declared.name}=")
            else:
                lines.append(f"# {declared.name}={declared.default}")
    return "\n".join(lines) + "\n"
