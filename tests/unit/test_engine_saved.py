"""Settings as plain values: what was written comes back equal, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from sona.config import BoundaryConfig, EwcConfig, PatternConfig, SonaConfig, VoteConfig
from sona.engine.saved import config_from_state, config_state
from sona.errors import StoreError
from sona.state import State

EVERYTHING = SonaConfig(
    hidden_dim=16,
    seed=3,
    micro_lora_rank=1,
    flush_threshold=7,
    use_micro=False,
    patterns=PatternConfig(k_clusters=7),
    votes=VoteConfig(similarity_edges=(0.4, 0.6), neighbours=3),
    ewc=EwcConfig(param_count=32, strength=500.0, boundary=BoundaryConfig(window_size=8)),
)


@pytest.mark.parametrize("config", [SonaConfig(), EVERYTHING])
def test_settings_come_back_equal_also_by_way_of_json(config):
    state = config_state(config)
    assert config_from_state(state) == config
    assert config_from_state(State(json.loads(json.dumps(dict(state.items()))))) == config


@pytest.mark.parametrize("name", [field.name for field in fields(SonaConfig)])
def test_a_missing_setting_is_a_damaged_state(name):
    values = {key: value for key, value in config_state(EVERYTHING).items() if key != name}
    with pytest.raises(StoreError, match=name):
        config_from_state(State(values))


@pytest.mark.parametrize(
    "wrong",
    [
        {"newer_setting": 1},
        {"micro_lora_rank": 9},
        {"seed": "x"},
        {"votes": 5},
        {"votes": {"capacity": 0}},
        {"graph": [1]},
        {"deep": {"unknown": 1}},
        {"patterns": {"k_clusters": 0}},
        {"patterns": {"unknown": 1}},
        {"ewc": {"param_count": 1}},
        {"ewc": []},
    ],
)
def test_settings_of_another_version_or_out_of_range_do_not_load(wrong):
    with pytest.raises(StoreError):
        config_from_state(State({**dict(config_state(EVERYTHING).items()), **wrong}))
