"""What the shop is configured with, as types."""

from dataclasses import dataclass
from datetime import timedelta

from securecfg import Secret, Vault
from securecfg.sources import load

# The profile picks `prod.yaml`; the other files hold for every profile. Later ones win.
SOURCES = ("config/", "config/payments.toml", "config/legacy.ini", "config/features.json", ".env")


@dataclass(frozen=True, slots=True)
class Shop:
    """How the shop presents itself."""

    name: str
    currency: str
    page_size: int


@dataclass(frozen=True, slots=True)
class Database:
    """Where orders are kept."""

    url: Secret[str]
    pool_size: int
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class Cache:
    """Where pages are kept."""

    url: Secret[str]
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Mail:
    """Who sends the confirmations."""

    host: str
    port: int
    user: str
    password: Secret[str]


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is called with a key."""

    host: str
    api_key: Secret[str]


@dataclass(frozen=True, slots=True)
class Stripe:
    """Who takes credit cards."""

    public_key: str
    secret_key: Secret[str]
    webhook_secret: Secret[str]


@dataclass(frozen=True, slots=True)
class Paypal:
    """Who takes the rest."""

    client_id: str
    client_secret: Secret[str]


@dataclass(frozen=True, slots=True)
class Warehouse:
    """Who packs the parcels."""

    host: str
    user: str
    password: Secret[str]
    folder: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. The last three are named as `.env` spells them."""

    shop: Shop
    database: Database
    cache: Cache
    mail: Mail
    search: Service
    analytics: Service
    features: dict[str, bool]
    stripe: Stripe
    paypal: Paypal
    warehouse: Warehouse
    SESSION_SECRET: Secret[str]
    ADMIN_PASSWORD: Secret[str]
    LOG_LEVEL: str


def load_settings(vault: Vault) -> Settings:
    """Return the settings of production.

    Raises:
        SecurecfgError: Something is missing, malformed or denied; all of it is named at once.
    """
    return load(*SOURCES, profile="prod", model=Settings, vault=vault)
