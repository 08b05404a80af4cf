"""Settings: four layers, checked, and explained in one line each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from imagesearch.config import Config, load_config
from imagesearch.errors import ConfigError
from imagesearch.models import catalogue
from imagesearch.records import Metric

from .conftest import REPOSITORY

# The settings file of the system that this one replaces, as its users have it.
ORIGINAL = """\
model:
  name: 'google/vit-base-patch16-224-in21k'
  embedding_dim: 768

data:
  raw_dir: 'data/raw'
  processed_dir: 'data/processed'

milvus:
  uri: './milvus_data/milvus.db'
  collection_name: 'image_embeddings_vit_base'
  embedding_field_name: 'embedding'
  index_name: 'idx_vector_embeddings'
  index_type: 'IVF_FLAT'
  index_params:
    nlist: 1024
  metric_type: 'L2'
  search_params:
    nprobe: 10

extraction:
  batch_size: 32

search:
  top_k: 10
"""


def load(
    text: str = "",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Settings from the text of a file in the working directory."""
    Path("settings.yaml").write_text(text, encoding="utf-8")
    return load_config("settings.yaml", overrides, environ or {})


def refusal(text: str = "", **layers: Any) -> str:
    """What is said of settings that are wrong; always one line."""
    with pytest.raises(ConfigError) as caught:
        load(text, **layers)
    message = str(caught.value)
    assert "\n" not in message
    return message


def settings_of(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{key}": getattr(getattr(config, section), key)
        for section, field in Config.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }


class TestFiles:
    def test_the_originals_settings_load_unchanged(self) -> None:
        config = load(ORIGINAL)
        here = Path.cwd()
        assert config.model.name == "google/vit-base-patch16-224-in21k"
        assert config.model.embedding_dim == 768
        assert (config.data.raw_dir, config.data.processed_dir) == (here / "data/raw", here / "data/processed")
        assert config.milvus.uri == str(here / "milvus_data" / "milvus.db")
        spec = config.collection_spec
        assert (spec.name, spec.vector_field, spec.index_name, spec.index_type) == (
            "image_embeddings_vit_base",
            "embedding",
            "idx_vector_embeddings",
            "IVF_FLAT",
        )
        assert spec.metric is Metric.L2
        assert (spec.index_params, spec.search_params) == ({"nlist": 1024}, {"nprobe": 10})
        assert (config.extraction.batch_size, config.search.top_k) == (32, 10)

    def test_the_repositorys_file_shows_every_default(self) -> None:
        file = REPOSITORY / "config.yaml"
        written = load_config(file, environ={})
        defaults = settings_of(load_config(environ={}))
        machine_dependent = {"data.raw_dir", "data.processed_dir", "milvus.uri"}
        shown = {
            f"{section}.{key}"
            for section, values in yaml.safe_load(file.read_text(encoding="utf-8")).items()
            for key in values
        }
        assert shown == set(defaults)
        differing = {key for key, value in settings_of(written).items() if value != defaults[key]}
        assert differing <= machine_dependent

    def test_the_repositorys_file_explains_every_key(self) -> None:
        lines = (REPOSITORY / "config.yaml").read_text(encoding="utf-8").splitlines()
        unexplained = []
        for number, line in enumerate(lines):
            if re.match(r"  \w+:", line):
                above = number - 1
                while re.match(r"  \w+:", lines[above]):  # a group of keys shares the comment above it
                    above -= 1
                if "#" not in line and not lines[above].lstrip().startswith("#"):
                    unexplained.append(line)
        assert not unexplained

    def test_without_any_file_there_are_defaults(self) -> None:
        config = load_config(environ={})
        assert config.model.name == "starter"
        assert config.milvus.index_type == "auto"
        assert Path(config.milvus.uri).is_relative_to(Path.home())
        assert config.source_of("milvus.uri") == "default"
        assert config == Config()

    def test_config_yaml_of_the_working_directory_is_found(self) -> None:
        Path("config.yaml").write_text("search: {top_k: 3}")
        config = load_config(environ={})
        assert config.search.top_k == 3
        assert config.source_of("search.top_k") == str(Path.cwd() / "config.yaml")

    def test_the_environment_can_name_the_file(self, tmp_path: Path) -> None:
        Path("config.yaml").write_text("search: {top_k: 3}")
        (tmp_path / "other.yaml").write_text("search: {top_k: 4}")
        assert load_config(environ={"IMAGESEARCH_CONFIG": str(tmp_path / "other.yaml")}).search.top_k == 4

    @pytest.mark.parametrize("text", ["", "# nothing\n", "milvus:\n", "milvus:\n  # token: x\nsearch: {}\n"])
    def test_empty_files_and_sections_are_no_mistake(self, text: str) -> None:
        assert settings_of(load(text)) == settings_of(Config())

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        for missing in ("nowhere.yaml", tmp_path, "x" * 300):
            with pytest.raises(ConfigError, match="no configuration file at"):
                load_config(missing, environ={})

    def test_a_model_whose_name_is_too_long_for_a_folder_is_none_here(self) -> None:
        assert load(f"model: {{name: {'x' * 300}}}").model.name == "x" * 300

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("- a\n- b\n", "expected sections such as 'model:' and 'milvus:'"),
            ("just text", "expected sections"),
            ("search: 5", "search = 5: expected a section with keys"),
            ("model: {name: a\n", "cannot be read as YAML"),
            ("model:\n\tname: x", "(line 2, column 1)"),
        ],
    )
    def test_files_that_are_no_settings(self, text: str, expected: str) -> None:
        message = refusal(text)
        assert str(Path.cwd() / "settings.yaml") in message
        assert expected in message

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[" * 50_000, "nested too deeply"),
            ("a: &a {b: 1}\nc: *a\n", "aliases"),
            (
                "a: &a [x, x, x, x, x, x, x, x, x]\n"
                + "".join(
                    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
                    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
                ),
                "aliases",
            ),
            ("model: {name: " + "x" * 10**7 + "}", "more than 100,000 characters"),
            ("# " + "x" * 99_000 + "\nsearch: 5", "search = 5"),
        ],
        ids=["deep", "alias", "a billion laughs", "huge", "almost too large"],
    )
    def test_a_file_that_would_take_long_is_a_line(self, text: str, expected: str) -> None:
        message = refusal(text)
        assert expected in message
        assert len(message.splitlines()) == 1

    def test_a_file_that_is_no_text(self) -> None:
        Path("settings.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match=r"settings\.yaml: cannot be read as YAML"):
            load_config("settings.yaml", environ={})


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "extraction: {batchsize: 3}",
                ["extraction.batchsize = 3", "unknown key (did you mean batch_size?)"],
            ),
            ("search: {zzz: 1}", ["search.zzz = 1", "unknown key", "allowed: top_k"]),
            ("extractoin: {batch_size: 3}", ["extractoin", "unknown key", "did you mean extraction?"]),
            ("extractoin:", ["extractoin", "did you mean extraction?"]),
            ("extraction: {batch_size: '32'}", ["extraction.batch_size = '32'", "valid integer"]),
            ("extraction: {batch_size: true}", ["extraction.batch_size = True", "valid integer"]),
            ("extraction: {batch_size: -1}", ["extraction.batch_size = -1", "greater than or equal to 0"]),
            ("extraction: {batch_size: 1.5}", ["extraction.batch_size = 1.5", "valid integer"]),
            ("data: {exclude: '*.gif'}", ["data.exclude = '*.gif'", "must be a list"]),
            ("search: {top_k: -1}", ["search.top_k = -1", "greater than or equal to 1"]),
            ("data: {max_megapixels: true}", ["data.max_megapixels = True", "valid number"]),
            ("data: {max_megapixels: .inf}", ["data.max_megapixels = inf", "finite"]),
            ("data: {max_megapixels: .nan}", ["data.max_megapixels = nan"]),
            ("data: {include_hidden: 'no'}", ["data.include_hidden = 'no'", "valid boolean"]),
            ("model: {name: 5}", ["model.name = 5", "valid string"]),
            ("model: {name: ''}", ["model.name = ''", "at least 1 character"]),
            ("model: {pooling: max}", ["model.pooling = 'max'", "'auto', 'pooler', 'cls' or 'mean'"]),
            ("model: {device: gpu}", ["model.device = 'gpu'", "auto", "cpu", "mps", "cuda"]),
            ("model: {precision: int8}", ["model.precision = 'int8'", "'bfloat16'"]),
            ("milvus: {metric_type: HAMMING}", ["milvus.metric_type = 'HAMMING'", "'COSINE', 'IP' or 'L2'"]),
            (
                "milvus: {index_type: HNSV}",
                ["milvus.index_type = 'HNSV'", "must be auto or one of FLAT, IVF_FLAT"],
            ),
            ("milvus: {index_params: [1]}", ["milvus.index_params = [1]"]),
            ("milvus: {index_params: {M: null}}", ["milvus.index_params.M = None", "must be a number"]),
            ("milvus: {timeout: 0}", ["milvus.timeout = 0", "greater than 0"]),
            ("milvus: {embedding_field_name: 'a b'}", ["milvus.embedding_field_name = 'a b'"]),
            ("milvus: {embedding_field_name: id}", ["milvus.embedding_field_name = 'id'", "another column"]),
            ("milvus: {embedding_field_name: path}", ["milvus.embedding_field_name = 'path'"]),
            ("1: {a: 2}", ["1 = 1", "strings"]),
            ("data: {raw_dir: ~nosuchuser/x}", ["~nosuchuser/x", "home directory"]),
        ],
    )
    def test_one_line_names_key_value_and_what_is_allowed(self, text: str, expected: list[str]) -> None:
        message = refusal(text)
        for part in expected:
            assert part in message

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "milvus: {index_type: HNSW, index_params: {nlist: 1024}}",
                ["milvus.index_params.nlist = 1024", "HNSW has no such parameter", "M, efConstruction"],
            ),
            (
                "milvus: {index_params: {nlist: 1024}}",
                ["milvus.index_params = {'nlist': 1024}", "in place of 'auto'"],
            ),
            (
                "milvus: {index_type: IVF_FLAT, search_params: {ef: 10}}",
                ["milvus.search_params.ef = 10", "IVF_FLAT has no such parameter", "nprobe"],
            ),
            (
                "milvus: {index_type: IVF_FLAT, index_params: {nlist: 8}, search_params: {nprobe: 9}}",
                ["milvus.search_params.nprobe = 9", "nlist"],
            ),
            ("milvus: {index_type: IVF_FLAT, index_params: {nlist: '8'}}", ["nlist = '8'", "whole number"]),
            (
                "milvus: {index_type: HNSW, index_params: {M: true}}",
                ["milvus.index_params.M = True", "must be a whole number"],
            ),
            ("milvus: {index_type: FLAT, index_params: {M: 8}}", ["takes none"]),
        ],
    )
    def test_impossible_combinations(self, text: str, expected: list[str]) -> None:
        message = refusal(text)
        assert message.startswith(str(Path.cwd() / "settings.yaml"))
        for part in expected:
            assert part in message

    def test_every_wrong_setting_has_its_line(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load("search: {top_k: 0}\nextraction: {batch_size: x}\nmodel: {nmae: y}\n")
        lines = str(caught.value).splitlines()
        assert len(lines) == 3
        assert sorted(re.findall(r"(\w+\.\w+) = ", str(caught.value))) == [
            "extraction.batch_size",
            "model.nmae",
            "search.top_k",
        ]

    def test_the_line_says_where_the_value_stands(self) -> None:
        assert "settings.yaml: search.top_k" in refusal("search: {top_k: 0}")
        assert "environment IMAGESEARCH_SEARCH__TOP_K: search.top_k = 0" in refusal(
            environ={"IMAGESEARCH_SEARCH__TOP_K": "0"}
        )
        assert refusal(overrides={"search": {"top_k": 0}}).startswith("flag: search.top_k = 0")

    @pytest.mark.parametrize("variable", ["IMAGESEARCH_TOPK", "IMAGESEARCH_"])
    def test_variables_that_name_no_setting(self, variable: str) -> None:
        assert "expected IMAGESEARCH_<SECTION>__<KEY>" in refusal(environ={variable: "1"})

    def test_misspelt_variables(self) -> None:
        message = refusal(environ={"IMAGESEARCH_SEARCH__TOPK": "5"})
        assert "IMAGESEARCH_SEARCH__TOPK" in message
        assert "did you mean top_k?" in message

    def test_python_callers_get_a_line_too(self) -> None:
        assert "search = 5: expected a section" in refusal(overrides={"search": 5})  # type: ignore[dict-item]

    def test_settings_cannot_be_changed_afterwards(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Config().search.top_k = 5  # type: ignore[misc]


class TestLayers:
    def test_each_layer_wins_over_the_one_below(self) -> None:
        file = "search: {top_k: 2}\nextraction: {batch_size: 2, decode_threads: 2}\n"
        environ = {"IMAGESEARCH_SEARCH__TOP_K": "3", "IMAGESEARCH_EXTRACTION__BATCH_SIZE": "3"}
        config = load(file, {"search": {"top_k": 4}}, environ)
        assert config.search.top_k == 4
        assert config.extraction.batch_size == 3
        assert config.extraction.decode_threads == 2
        assert config.model.device == "auto"
        assert config.source_of("search.top_k") == "flag"
        assert config.source_of("extraction.batch_size") == "environment IMAGESEARCH_EXTRACTION__BATCH_SIZE"
        assert config.source_of("extraction.decode_threads") == str(Path.cwd() / "settings.yaml")
        assert config.source_of("model.device") == "default"

    def test_flags_that_were_not_given_change_nothing(self) -> None:
        assert load("search: {top_k: 2}", {"search": {"top_k": None}}).search.top_k == 2

    def test_another_model_forgets_what_was_said_of_the_first(self) -> None:
        config = load(ORIGINAL, {"model": {"name": "starter"}})
        assert config.model.embedding_dim is None
        assert config.source_of("model.embedding_dim") == "default"
        assert load(ORIGINAL, {"model": {"device": "cpu"}}).model.embedding_dim == 768

    def test_another_index_type_forgets_the_parameters_of_the_first(self) -> None:
        config = load(ORIGINAL, environ={"IMAGESEARCH_MILVUS__INDEX_TYPE": "HNSW"})
        assert config.milvus.index_params == {}
        assert config.milvus.search_params == {}

    def test_variables_are_typed_like_the_file(self) -> None:
        config = load(
            environ={
                "IMAGESEARCH_MILVUS__INDEX_TYPE": "HNSW",
                "IMAGESEARCH_MILVUS__INDEX_PARAMS": "{M: 32, efConstruction: 100}",
                "IMAGESEARCH_DATA__INCLUDE_HIDDEN": "yes",
                "IMAGESEARCH_DATA__MAX_MEGAPIXELS": "12.5",
                "IMAGESEARCH_MILVUS__METRIC_TYPE": "L2",
                "IMAGESEARCH_MODEL__EMBEDDING_DIM": "null",
                "IMAGESEARCH_MODEL__REVISION": "0012",
                "IMAGESEARCH_MILVUS__TOKEN": "1234567890",
            }
        )
        assert config.milvus.index_params == {"M": 32, "efConstruction": 100}
        assert config.data.include_hidden is True
        assert config.data.max_megapixels == 12.5
        assert config.milvus.metric_type is Metric.L2
        assert config.model.embedding_dim is None
        assert config.model.revision == "0012"
        assert config.milvus.token is not None
        assert config.milvus.token.get_secret_value() == "1234567890"

    def test_variables_of_one_section_do_not_clear_each_other(self) -> None:
        """In alphabetical order INDEX_PARAMS comes before INDEX_TYPE, EMBEDDING_DIM before NAME."""
        config = load(
            environ={
                "IMAGESEARCH_MILVUS__INDEX_PARAMS": "{nlist: 512}",
                "IMAGESEARCH_MILVUS__INDEX_TYPE": "IVF_FLAT",
                "IMAGESEARCH_MODEL__EMBEDDING_DIM": "768",
                "IMAGESEARCH_MODEL__NAME": "vit",
            }
        )
        assert config.milvus.index_params == {"nlist": 512}
        assert config.model.embedding_dim == 768

    def test_the_real_environment_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMAGESEARCH_SEARCH__TOP_K", "7")
        assert load_config().search.top_k == 7


class TestPaths:
    def test_paths_of_a_file_are_relative_to_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "project"
        (folder / "models" / "mine").mkdir(parents=True)
        (folder / "c.yaml").write_text(
            "data: {raw_dir: raw}\nmilvus: {uri: db/../m.db, tls_ca: ca.pem}\nmodel: {name: models/mine}\n"
        )
        config = load_config(folder / "c.yaml", environ={})
        assert config.data.raw_dir == folder / "raw"
        assert config.milvus.uri == str(folder / "m.db")
        assert config.milvus.tls_ca == folder / "ca.pem"
        assert config.model.name == str(folder / "models" / "mine")

    def test_other_paths_are_relative_to_the_working_directory(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_text("data: {raw_dir: a, processed_dir: b}")
        config = load_config(
            tmp_path / "c.yaml", {"milvus": {"uri": "m.db"}}, {"IMAGESEARCH_DATA__RAW_DIR": "pictures"}
        )
        assert config.data.raw_dir == Path.cwd() / "pictures"
        assert config.data.processed_dir == tmp_path / "b"
        assert config.milvus.uri == str(Path.cwd() / "m.db")

    def test_home_and_absolute_paths(self) -> None:
        config = load("data: {raw_dir: ~/Pictures, processed_dir: /var/x}")
        assert config.data.raw_dir == Path.home() / "Pictures"
        assert config.data.processed_dir == Path("/var/x")

    @pytest.mark.parametrize(
        "uri", ["http://localhost:19530", "https://in03.zillizcloud.com", "unix:///run/milvus"]
    )
    def test_uris_are_no_paths(self, uri: str) -> None:
        config = load(f"milvus: {{uri: '{uri}'}}")
        assert config.milvus.uri == uri

    def test_presets_and_hub_names_are_no_paths(self) -> None:
        os.mkdir("starter")
        assert load("model: {name: starter}").model.name == "starter"
        assert load("model: {name: google/vit-base-patch16-224}").model.name == "google/vit-base-patch16-224"

    def test_collections_are_named_after_their_model(self) -> None:
        assert Config().collection_spec.name == "images_starter"
        vit = Config(model={"name": "vit"}).collection_spec.name  # type: ignore[arg-type]
        assert vit == f"images_{catalogue.slug('vit')}" == "images_google_vit_base_patch16_224_in21k"


class TestSecrets:
    def test_the_token_is_never_shown(self) -> None:
        config = load("milvus: {token: s3cret}")
        assert config.milvus.token is not None
        assert config.milvus.token.get_secret_value() == "s3cret"
        for text in (repr(config), str(config), str(config.model_dump()), config.model_dump_json()):
            assert "s3cret" not in text

    @pytest.mark.parametrize(
        "text",
        [
            "milvus: {token: [s3cret]}",
            "milvus: {token: {user: s3cret}}",
            "milvus: {tokne: s3cret}",
            "milvus: {TOKEN: s3cret}",
            "model: {token: s3cret}",
            "milvus: {token: s3cret, index_type: NOPE}",
            "milvus: {token: s3cret, index_params: 5}",
            "milvsu: {token: s3cret}",
            "milvus: token s3cret",
            'milvus:\n  token: "s3cret\n',
            "milvus: {token: s3cret",
            "milvus: [s3cret]",
        ],
    )
    def test_nor_in_the_message_about_a_mistake(self, text: str) -> None:
        assert "s3cret" not in refusal(text)

    def test_nor_in_that_about_a_variable(self) -> None:
        assert "s3cret" not in refusal(environ={"IMAGESEARCH_MILVUS__TOKN": "s3cret"})
        assert "s3cret" not in refusal(environ={"IMAGESEARCH_MILVUS_TOKEN": "s3cret"})

    def test_nor_when_python_builds_the_settings(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Config(milvus={"token": "s3cret", "index_type": "NOPE"})  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)
