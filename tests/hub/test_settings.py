"""Settings: every name declared once, every problem named at once, no secret ever shown."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.settings import GROUPS, LEAST_BYTES, REQUIRED_SECRETS, SETTINGS, BadSettings, Settings, template

ROOT = Path(__file__).parents[2]
JWT_SECRET = "Zk3v9pQ1xT7mR5wY8nB2cL6dH4gJ0sAf"
IDENTIFICATION = "q8W2eR5tY7uI9oP1"
PRODUCTION = {"NODE_ENV": "production", "JWT_SECRET": JWT_SECRET, "INTERFACE_IDENTIFICATION": IDENTIFICATION}
OLD_NAMES = """
    NODE_ENV PORT API_BASE_URL FRONTEND_URL CORS_ORIGINS INTERFACE_IDENTIFICATION JWT_SECRET JWT_EXPIRES_IN DB_NAME
    DB_USER DB_PASSWORD DB_HOST DB_PORT UPLOAD_VIDEOS_DIR UPLOAD_URL_PATH UPLOAD_BACKGROUNDS_DIR
    UPLOAD_BACKGROUNDS_URL_PATH UPLOAD_FILE_SIZE_LIMIT HEARTBEAT_TIMEOUT
""".split()
NEW_NAMES = """
    MAX_RUNNING_PER_USER MAX_VIEWERS_PER_USER STALL_SECONDS
    APP_ENV BIND MONGODB_URI DATA_DIR TRUSTED_PROXIES METRICS_TOKEN LOG_FORMAT LOG_LEVEL AUTO_REGISTER_INTERFACES
    LEASE_SECONDS HEARTBEAT_SECONDS MAX_ATTEMPTS OFFER_SECONDS RESULT_FILE_SIZE_LIMIT OUTPUT_DIR INTERFACE_NETWORKS
    INTERFACE_MODELS SHARED_DIR SHARED_DIR_MODE POLL_GAP_SECONDS USER_STORAGE_LIMIT USER_FILES_LIMIT USER_UPLOADS_LIMIT
    UPLOAD_EXPIRES_IN RESULT_KEEP_DAYS
""".split()


def problems(values: dict[str, str]) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        Settings.parse(values)
    assert str(bad.value).split("\n") == bad.value.problems
    return bad.value.problems


def test_every_name_of_the_contract_is_declared_once() -> None:
    names = [declared.name for declared in SETTINGS]
    assert sorted(names) == sorted({*names})
    assert {*names} == {*OLD_NAMES, *NEW_NAMES}
    assert all(declared.help.endswith((".", "48")) and declared.group in GROUPS for declared in SETTINGS)


def test_the_template_in_the_tree_is_made_of_the_declarations() -> None:
    """`python -c 'import hub.settings as s; print(s.template(), end="")' > .env.production` writes it anew."""
    assert (ROOT / ".env.production").read_text(encoding="utf-8") == template()


def test_the_template_names_every_setting_once_and_no_secret() -> None:
    written = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", template(), re.MULTILINE)
    assert sorted(name for name, _ in written) == sorted(declared.name for declared in SETTINGS)
    assert all(dict(written)[declared.name] == "" for declared in SETTINGS if declared.secret)


def test_the_defaults() -> None:
    got = Settings.parse({}, Path("/srv/hub"))
    assert (got.production, got.bind, got.port, got.log_format, got.log_level) == (
        False, "127.0.0.1", 6001, "console", "info",
    )
    assert got.api_base_url == got.frontend_url == "http://localhost:6001"
    assert (got.db_name, got.db_port, got.mongodb) == ("video_segment", 27017, None)
    assert (got.jwt_expires_in, got.jwt_secret, got.interface_identification) == (7 * 86400, "", "")
    assert (got.upload_url_path, got.upload_backgrounds_url_path) == ("videos", "backgrounds")
    assert got.upload_file_size_limit == 100 * 1024 * 1024
    assert got.result_file_size_limit == 400 * 1024 * 1024
    assert (got.heartbeat_timeout, got.heartbeat_seconds, got.lease_seconds, got.offer_seconds) == (180, 60, 120, 5)
    assert (got.max_attempts, got.auto_register_interfaces) == (3, False)
    assert (got.metrics_token, got.cors_origins, got.trusted_proxies) == (None, (), ())
    assert got.data_dir == Path("/srv/hub/.data")
    assert got.upload_videos_dir == Path("/srv/hub/uploads/videos")
    assert got.upload_backgrounds_dir == Path("/srv/hub/uploads/backgrounds")
    assert got.output_dir == Path("/srv/hub/uploads/output")


def test_defaults_that_follow_other_settings() -> None:
    got = Settings.parse({"PORT": "80", "UPLOAD_FILE_SIZE_LIMIT": "0.5", "LEASE_SECONDS": "0.4"})
    assert got.api_base_url == "http://localhost:80"
    assert got.result_file_size_limit == 2 * 1024 * 1024
    assert got.heartbeat_seconds == 0.2
    got = Settings.parse(PRODUCTION)
    assert (got.bind, got.log_format) == ("0.0.0.0", "json")
    assert Settings.parse({"API_BASE_URL": "https://hub.example.org/"}).frontend_url == "https://hub.example.org"


def test_empty_texts_and_spaces_count_as_not_given() -> None:
    assert Settings.parse({declared.name: "  " for declared in SETTINGS}) == Settings.parse({})


def test_a_mode_is_octal_as_for_chmod() -> None:
    assert Settings.parse({}).shared_dir_mode is None
    assert Settings.parse({"SHARED_DIR_MODE": "2770"}).shared_dir_mode == 0o2770
    assert Settings.parse({"SHARED_DIR_MODE": "0755"}).shared_dir_mode == 0o755


def test_absolute_folders_stay_where_they_are() -> None:
    assert Settings.parse({"DATA_DIR": "/var/lib/hub"}, Path("/srv")).data_dir == Path("/var/lib/hub")


@pytest.mark.parametrize(("text", "seconds"), [
    ("7d", 604800), ("12h", 43200), ("30m", 1800), ("3600", 3600), ("3600s", 3600), ("2 days", 172800),
    ("1 day", 86400), ("1.5h", 5400), ("90 mins", 5400), ("2 Weeks", 1209600), ("1hr", 3600), ("60000ms", 60),
    ("120 seconds", 120),
])
def test_durations(text: str, seconds: int) -> None:
    assert Settings.parse({"JWT_EXPIRES_IN": text}).jwt_expires_in == seconds


BAD = [
    ("NODE_ENV", ["prod", "staging"]), ("APP_ENV", ["live"]),
    ("PORT", ["-1", "65536", "6001.5", "1e3", "٦", "0x50", "6001 6002"]),
    ("JWT_EXPIRES_IN", ["7 fortnights", "-7d", "d", "0", "59s", "s" * 100, "9" * 30 + "d", "7d 3h", "1e9"]),
    ("UPLOAD_FILE_SIZE_LIMIT", ["0", "-1", "100MB", "NaN", "inf", "999999999999"]),
    ("HEARTBEAT_TIMEOUT", ["0", "1441", "three"]), ("LEASE_SECONDS", ["0", "1e1", "90000"]),
    ("MAX_ATTEMPTS", ["0", "101", "2.5"]), ("MAX_RUNNING_PER_USER", ["-1", "many"]), ("STALL_SECONDS", ["0", "soon"]),
    ("AUTO_REGISTER_INTERFACES", ["maybe"]),
    ("API_BASE_URL", ["hub.example.org", "ftp://hub", "http://", "http://a b", "https://h/?q", "http://[::1"]),
    ("FRONTEND_URL", ["https://h:99999", "https://h:x", "https://h/#x", "javascript:alert(1)"]),
    ("CORS_ORIGINS", ["*", "https://a.example.org/path", "https://a, b", "null"]),
    ("TRUSTED_PROXIES", ["10.0.0.0/33", "proxy", "10.0.0.256"]), ("BIND", ["0.0.0.0 ::", "http://x"]),
    ("DB_HOST", ["a/b", "user@host", "a,b"]), ("DB_PORT", ["0"]), ("DB_NAME", ["a.b", "a/b", "$x", "x" * 64]),
    ("MONGODB_URI", ["localhost:27017", "postgres://x"]),
    ("UPLOAD_URL_PATH", ["../etc", "a//b", ".hidden", "a b", "a?b", "/"]),
    ("LOG_FORMAT", ["xml"]), ("LOG_LEVEL", ["loud"]), ("DATA_DIR", ["a\0b"]),
    ("SHARED_DIR_MODE", ["775", "0o2770", "rwx", "0800", "07777", "0000", "-770"]),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD for text in texts])
def test_a_wrong_value_is_named_with_what_was_expected(name: str, text: str) -> None:
    [problem] = problems({name: text})
    assert problem.startswith(f"{name}: expected ")
    assert problem.isprintable()
    assert len(problem) < 400


def test_all_problems_are_named_at_once() -> None:
    named = [problem.partition(":")[0] for problem in problems({
        "NODE_ENV": "production", "PORT": "http", "JWT_EXPIRES_IN": "soon", "UPLOAD_URL_PATH": "api",
        "JWT_SECRET": "short", "DB_USER": "hub",
    })]
    assert named == [
        "PORT", "JWT_EXPIRES_IN", "UPLOAD_URL_PATH", "DB_USER and DB_PASSWORD", "JWT_SECRET",
        "INTERFACE_IDENTIFICATION",
    ]


@pytest.mark.parametrize(("values", "start"), [
    ({"UPLOAD_URL_PATH": "x", "UPLOAD_BACKGROUNDS_URL_PATH": "/x/"}, "UPLOAD_BACKGROUNDS_URL_PATH: must differ"),
    ({"UPLOAD_BACKGROUNDS_URL_PATH": "output"}, "UPLOAD_BACKGROUNDS_URL_PATH: the hub serves something else"),
    ({"OUTPUT_DIR": "uploads/videos"}, "OUTPUT_DIR: must differ from UPLOAD_VIDEOS_DIR"),
    ({"LEASE_SECONDS": "60", "HEARTBEAT_SECONDS": "60"}, "HEARTBEAT_SECONDS: must be shorter"),
    ({"DB_PASSWORD": "p"}, "DB_USER and DB_PASSWORD: give both"),
])
def test_settings_that_contradict_each_other(values: dict[str, str], start: str) -> None:
    [problem] = problems(values)
    assert problem.startswith(start)


@pytest.mark.parametrize("name", ["NODE_ENV", "APP_ENV"])
def test_production_without_secrets_does_not_start(name: str) -> None:
    assert problems({name: "production"}) == [
        "JWT_SECRET: missing; production needs at least 32 random bytes",
        "INTERFACE_IDENTIFICATION: missing; production needs at least 16 random bytes",
    ]


@pytest.mark.parametrize("secret", [
    "change-me", "CHANGE_ME_CHANGE_ME_CHANGE_ME_CHANGE_ME", "your-secret-key-that-is-long-enough-to-pass", "secret",
    "secret" * 8, "a" * 40, "ab" * 20, "x" * 31 + "y", "replace-me-with-something-long-and-random",
    "please-put-your_jwt_secret_here-1234", "12345678901234567890123456789012", JWT_SECRET[:31], IDENTIFICATION * 2,
])
def test_production_refuses_short_and_placeholder_secrets(secret: str) -> None:
    [problem] = problems({**PRODUCTION, "JWT_SECRET": secret})
    assert problem.startswith(("JWT_SECRET: is a placeholder", "JWT_SECRET: too short"))
    assert secret not in problem


def test_production_refuses_weak_metrics_tokens_but_needs_none() -> None:
    Settings.parse(PRODUCTION)
    assert problems({**PRODUCTION, "METRICS_TOKEN": "metrics"}) == [
        "METRICS_TOKEN: too short; production needs at least 16 random bytes",
    ]


def test_the_interface_services_must_not_know_the_jwt_secret() -> None:
    [problem] = problems({**PRODUCTION, "INTERFACE_IDENTIFICATION": JWT_SECRET})
    assert problem.startswith("INTERFACE_IDENTIFICATION: must differ from JWT_SECRET")


def test_development_takes_any_secret() -> None:
    assert Settings.parse({"JWT_SECRET": "secret"}).jwt_secret == "secret"


@given(st.binary(min_size=32, max_size=48))
def test_random_secrets_are_no_placeholders(secret: bytes) -> None:
    """Hypothesis likes repetitive bytes; a secret made of 8 different ones is random enough to ask for."""
    if len(set(secret)) < 8 or secret in (secret + secret)[1:-1]:
        return
    assert Settings.parse({**PRODUCTION, "JWT_SECRET": secret.hex()}).jwt_secret == secret.hex()


SECRETS = {declared.name for declared in SETTINGS if declared.secret}


def test_which_settings_are_secret() -> None:
    assert SECRETS == {"JWT_SECRET", "INTERFACE_IDENTIFICATION", "MONGODB_URI", "DB_PASSWORD", "METRICS_TOKEN"}
    assert {*REQUIRED_SECRETS} < {*LEAST_BYTES} < SECRETS


def test_p16_no_secret_shows_in_repr_or_in_the_description() -> None:
    marked = {name: f"{JWT_SECRET}{name}" for name in SECRETS}
    marked["MONGODB_URI"] = f"mongodb://u:{JWT_SECRET}@h/"
    got = Settings.parse({**PRODUCTION, **marked, "DB_USER": "hub"})
    description = got.describe()
    assert JWT_SECRET not in repr(got) + str(got) + str(description)
    assert {description[name] for name in SECRETS} == {"set"}
    assert [*description] == [declared.name for declared in SETTINGS]
    assert Settings.parse({}).describe()["MONGODB_URI"] == "not set"


@pytest.mark.parametrize("name", sorted({*SECRETS, "API_BASE_URL", "CORS_ORIGINS", "FRONTEND_URL"}))
def test_p16_no_problem_shows_a_secret(name: str) -> None:
    secret = f"https://ann:{JWT_SECRET}@host\0"
    assert JWT_SECRET not in str(problems({**PRODUCTION, name: secret}))


def test_the_connection_string_wins_over_its_parts() -> None:
    uri = "mongodb://a,b/?replicaSet=rs"
    assert Settings.parse({"MONGODB_URI": uri, "DB_HOST": "c", "DB_USER": "half a pair"}).mongodb == uri


@pytest.mark.parametrize(("values", "uri"), [
    ({"DB_USER": "u", "DB_PASSWORD": "p"}, None),
    ({"DB_HOST": "db"}, "mongodb://db:27017/"),
    ({"DB_HOST": "::1", "DB_PORT": "1"}, "mongodb://[::1]:1/"),
    ({"DB_HOST": "db", "DB_USER": "u", "DB_PASSWORD": "p/@:%"}, "mongodb://u:p%2F%40%3A%25@db:27017/?authSource=admin"),
])
def test_the_connection_string_out_of_its_parts(values: dict[str, str], uri: str | None) -> None:
    assert Settings.parse(values).mongodb == uri


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20))
def test_any_password_survives_the_way_into_the_connection_string(password: str) -> None:
    uri = Settings.parse({"DB_HOST": "db", "DB_USER": "u", "DB_PASSWORD": password}).mongodb
    assert unquote(urlsplit(str(uri)).password or "") == password


def test_origins_are_written_as_browsers_write_them() -> None:
    got = Settings.parse({
        "API_BASE_URL": "https://Hub.example.org:443/base/", "FRONTEND_URL": "http://videos.example.org:80",
        "CORS_ORIGINS": "http://localhost:5173/, https://[2001:db8::1]:8443,",
    })
    assert got.api_base_url == "https://hub.example.org/base"
    assert got.origins == {
        "https://hub.example.org", "http://videos.example.org", "http://localhost:5173", "https://[2001:db8::1]:8443",
    }


def test_proxies_may_be_addresses_and_ranges() -> None:
    got = Settings.parse({"TRUSTED_PROXIES": "127.0.0.1, 10.1.2.3/8, fd00::/8"})
    assert [str(each) for each in got.trusted_proxies] == ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]


@given(st.dictionaries(st.sampled_from([each.name.upper() for each in fields(Settings)]), st.text(max_size=30)))
def test_any_texts_make_settings_or_named_problems(values: dict[str, str]) -> None:
    try:
        Settings.parse(values)
    except BadSettings as bad:
        assert bad.problems
        assert all(problem.isprintable() for problem in bad.problems)
