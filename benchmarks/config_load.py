"""Configuration against its peers: `python -m benchmarks --only config_load`.

The rows: three YAML layers with 55, 22 and 11 values, 5 environment overrides, origins, a model; 1 MB and 10 MB of
YAML; access; merge.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from dynaconf import Dynaconf
from dynaconf.utils import object_merge
from pydantic import BaseModel
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource

from benchmarks.rows import ahead_of, interleave, over_floor, repeated
from securecfg.config import Config, Layer, merge, origin
from securecfg.config.from_json import parse_json
from securecfg.config.from_yaml import parse_yaml
from securecfg.sources import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic_settings import PydanticBaseSettingsSource

    from benchmarks.rows import Bench, Row

SECTIONS = ("database", "cache", "queue", "http", "logs")


class Section(BaseModel):
    host: str
    port: int
    enabled: bool
    ratio: float
    region: str
    owner: str
    timeout_s: int
    path: str
    size: int
    mode: str
    note: str


class Model(BaseModel):
    database: Section
    cache: Section
    queue: Section
    http: Section
    logs: Section


class Peer(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BENCH_", env_nested_delimiter="__")

    database: Section
    cache: Section
    queue: Section
    http: Section
    logs: Section

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del init_settings, dotenv_settings, file_secret_settings
        return env_settings, YamlConfigSettingsSource(settings_cls, FILE)


FILE = Path(tempfile.gettempdir()) / f"securecfg-bench-{os.getpid()}" / "default.yaml"


def compare(
    bench: Bench, name: str, contenders: dict[str, Callable[[], object]], repeat: int, goals: dict[str, float]
) -> Iterator[Row]:
    """Yield a row for each peer of the first contender."""
    found = interleave({each: repeated(call, repeat) for each, call in contenders.items()}, bench.rounds)
    ours, *peers = contenders
    for peer in peers:
        if peer.startswith("floor: "):
            yield over_floor(f"{name}: {ours}", found[ours], (peer.removeprefix("floor: "), found[peer]))
            continue
        yield ahead_of(f"{name}: {ours}", found[ours], (peer, found[peer]), goals.get(peer))


def section(seed: int) -> str:
    r = random.Random(seed)
    values = {
        "host": f"host-{seed}.internal",
        "port": r.randrange(1024, 65535),
        "enabled": str(r.random() < 0.5).lower(),
        "ratio": f"{r.random():.4f}",
        "region": f"eu-west-{seed}",
        "owner": f"team-{seed}",
        "timeout_s": r.randrange(60),
        "path": f"/srv/data/{seed}",
        "size": r.randrange(10**6),
        "mode": '"fast"',
        "note": "some words about it",
    }
    return "".join(f"  {key}: {value}\n" for key, value in values.items())


def small(bench: Bench) -> Iterator[Row]:
    directory = FILE.parent
    directory.mkdir(mode=0o700)
    whole = "".join(f"{name}:\n{section(n)}" for n, name in enumerate(SECTIONS))
    FILE.write_text(whole)
    (directory / "base.yaml").write_text("".join(f"{name}:\n{section(n)}" for n, name in enumerate(SECTIONS[:2])))
    (directory / "prod.yaml").write_text(f"extends: base\nqueue:\n{section(7)}")
    for n, name in enumerate(SECTIONS):
        os.environ[f"BENCH_{name.upper()}__SIZE"] = str(n)

    def ours() -> Model:
        return load(directory, model=Model, profile="prod", env_prefix="BENCH")

    def peer() -> Peer:
        return Peer()  # type: ignore[call-arg]  # its fields come from its sources

    def dynaconf() -> object:
        return Dynaconf(settings_files=[str(FILE)], envvar_prefix="BENCH").as_dict()

    assert ours().queue.size == peer().queue.size == 2
    assert str(origin(load(directory, profile="prod"), "queue.size")) == "prod.yaml:11:9"
    peers: dict[str, Callable[[], object]] = {
        "securecfg, 3 layers, origins, model": ours,
        "pydantic-settings, 1 layer": peer,
        "dynaconf, 1 layer, no model": dynaconf,
    }
    goals = {"pydantic-settings, 1 layer": 5.0, "dynaconf, 1 layer, no model": 15.0}
    yield from compare(bench, "small load, 55 values, 5 variables", peers, 20, goals)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def records(count: int) -> bytes:
    return ("services:\n" + "".join(f"  service-{n}:\n" + _indented(section(n)) for n in range(count))).encode()


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def large(bench: Bench) -> Iterator[Row]:
    layer = Layer("large.yaml", "large.yaml")
    for name, count, repeat in (("1 MB", 4_200, 3), ("10 MB", 42_000, 1)):
        content = records(count)
        tree = parse_yaml(content, layer)
        assert tree.services["service-7"].port == yaml.load(content, yaml.CSafeLoader)["services"]["service-7"]["port"]
        del tree
        events: dict[str, Callable[[], object]] = {
            "securecfg with origins": lambda content=content: parse_yaml(content, layer),  # type: ignore[misc]  # bound in this turn of the loop
            "yaml.load(CSafeLoader) without": lambda content=content: yaml.load(content, yaml.CSafeLoader),  # type: ignore[misc]  # the same
            "floor: libyaml's events, thrown away": lambda content=content: consume(content),  # type: ignore[misc]  # the same
        }
        yield from compare(bench, f"YAML, {name}", events, repeat, {"yaml.load(CSafeLoader) without": 5.0})


def consume(content: bytes) -> None:
    for _ in yaml.parse(content, yaml.CSafeLoader):
        pass


class Plain:
    """An ordinary object with ordinary attributes."""


def access(bench: Bench) -> Iterator[Row]:
    tree = parse_yaml(b"a: {b: {c: 1, d: 2}, e: 3}\nf: 4\n", Layer("a", "a"))
    plain: Any = Plain()
    plain.a = Plain()
    plain.a.b = Plain()
    plain.a.b.c = 1

    # Two functions, so that each meets one type only, as a line of a program does.
    def ours(tree: Config = tree) -> None:
        for _ in range(10_000):
            tree.a.b.c  # noqa: B018 - what is measured

    def floor(tree: Any = plain) -> None:  # noqa: ANN401 - any object
        for _ in range(10_000):
            tree.a.b.c  # noqa: B018 - what is measured

    found = interleave({"ours": repeated(ours, 20), "floor": repeated(floor, 20)}, bench.rounds)
    yield over_floor("access a.b.c, 10,000 times", found["ours"], ("plain attributes", found["floor"]), 2.0)


def merging(bench: Bench) -> Iterator[Row]:
    import json

    def tree(seed: int) -> dict[str, Any]:
        r = random.Random(seed)
        return {f"s{n}": {f"k{m}": r.random() for m in range(100)} for n in range(100)}

    trees = [tree(seed) for seed in range(3)]
    layers = [parse_json(json.dumps(one).encode(), Layer(str(n), str(n))) for n, one in enumerate(trees)]

    def dynaconf() -> None:
        low = trees[0]
        for high in trees[1:]:
            merged = {name: dict(values) for name, values in high.items()}  # it merges into the higher one
            object_merge(low, merged)
            low = merged

    yield from compare(
        bench,
        "merge, 3 layers of 10,000 keys",
        {"securecfg with origins": lambda: merge(layers), "dynaconf without": dynaconf},
        5,
        {"dynaconf without": 3.0},
    )


def rows(bench: Bench) -> Iterator[Row]:
    for each in (small, large, access, merging):
        yield from each(bench)
