"""The click models by name."""

from collections.abc import Mapping

from quarry_miner.clicks.affine import TrustBiasAffine
from quarry_miner.clicks.base import ClickModel
from quarry_miner.clicks.coec import ClicksOverExpected
from quarry_miner.clicks.ctr import ClickThroughRate
from quarry_miner.clicks.pbm import PositionBased
from quarry_miner.clicks.sdbn import SimplifiedDbn
from quarry_miner.clicks.ubm import UserBrowsing

CLICK_MODELS: Mapping[str, ClickModel] = {
    model.name: model
    for model in (
        ClickThroughRate(),
        ClicksOverExpected(),
        SimplifiedDbn(),
        PositionBased(),
        UserBrowsing(),
        TrustBiasAffine(),
    )
}
