"""After an import a program gets the values that it had before, and every one of them as a secret."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securecfg.cli.environment import to_environment
from securecfg.config.tree import as_dict
from securecfg.secret import Secret
from securecfg.sources import load
from securecfg.sources.importing import import_secrets, undo_import
from tests.corpus.reading import read_corpus
from tests.sources.project import CANARIES, FILES, Project, make_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.sources.detection import SourceFile

Tree = Any  # of any shape
PASSWORDS = st.text(string.ascii_letters + string.digits + "!%+,-./:;<>=@^_~äß", min_size=8, max_size=30).filter(
    lambda text: text.strip() == text
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = make_project(tmp_path)
    yield project
    project.world.close()


def revealed(value: Tree) -> Tree:
    if isinstance(value, dict):
        return {key: revealed(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [revealed(child) for child in value]
    return value.reveal() if isinstance(value, Secret) else value


def sources(project: Project) -> list[str]:
    return [str(project.folder / name) for name in FILES]


def test_all_five_formats_load_as_before(project: Project) -> None:
    before = as_dict(load(*sources(project)))
    import_secrets(project.vault, project.given)
    after = load(*sources(project), vault=project.vault)
    assert revealed(as_dict(after)) == before
    assert not [canary for canary in CANARIES if canary in repr(as_dict(after))]


def test_every_moved_value_is_a_secret(project: Project) -> None:
    import_secrets(project.vault, project.given)
    config = load(*sources(project), vault=project.vault)
    secrets = [
        config.database.url,
        config.database.password,
        config.smtp.password,
        config.redis.password,
        config.search.password,
        config["STRIPE_API_KEY"],
        config["DB_PASSWORD"],
    ]
    assert all(isinstance(secret, Secret) for secret in secrets)
    assert config.database.url.reveal() == "postgres://shop:p%40ss%2Fcanary%3A1@db.internal/shop"
    assert (config.database.pool, config.smtp.host, config.redis.ttl) == (5, "mail.internal", 60)


def test_the_environment_of_a_command_is_as_before(project: Project) -> None:
    before = to_environment(load(*sources(project)))
    import_secrets(project.vault, project.given)
    assert to_environment(load(*sources(project), vault=project.vault)) == before


def test_a_rotated_secret_is_loaded_from_its_new_version(project: Project) -> None:
    import_secrets(project.vault, project.given)
    project.vault.write("prod/database/url", {"password": "new:canary"})
    config = load(str(project.folder / "config/prod.yaml"), vault=project.vault)
    assert config.database.url.reveal() == "postgres://shop:new%3Acanary@db.internal/shop"


def _loaded(path: Path, **options: Any) -> Any:  # noqa: ANN401 - a tree, and the options of `load`
    from securecfg.errors import ConfigError

    try:
        return load(str(path), **options)
    except ConfigError:
        return None  # a dialect, or several documents, that `load` does not read


def test_the_whole_corpus_loads_as_before_and_is_restored(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    corpus: list[SourceFile] = list(read_corpus())
    folder = tmp_path / "corpus"
    for source in corpus:
        path = folder / source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.content)
    before = {source.name: _loaded(folder / source.name) for source in corpus}
    outcome = import_secrets(project.vault, [folder])
    assert outcome is not None
    assert outcome.secrets > 80
    for source in corpus:
        known = before[source.name]
        if known is not None:
            now = _loaded(folder / source.name, vault=project.vault)
            assert now is not None
            assert revealed(as_dict(now)) == as_dict(known)
    undo_import(project.vault)
    for source in corpus:
        assert (folder / source.name).read_bytes() == source.content
    project.world.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=PASSWORDS)
def test_any_password_survives_the_journey(project: Project, password: str) -> None:
    with tempfile.TemporaryDirectory(dir=project.folder) as name:
        folder = Path(name)
        (folder / "a.json").write_text('{"db": {"password": "' + password + '"}}')
        (folder / "b.toml").write_text(f'[mail]\npassword = "{password}"\n')
        (folder / "c.yaml").write_text(f'queue:\n  password: "{password}"\n')
        paths = [folder / "a.json", folder / "b.toml", folder / "c.yaml"]
        contents = [path.read_bytes() for path in paths]
        before = as_dict(load(*map(str, paths)))
        import_secrets(project.vault, paths, prefix=f"p/{folder.name}")
        assert revealed(as_dict(load(*map(str, paths), vault=project.vault))) == before
        undone = undo_import(project.vault) if paths[0].read_bytes() != contents[0] else None
        assert undone is None or undone.problems == ()
        assert [path.read_bytes() for path in paths] == contents
