"""The click models by name."""

from collections.abc import Mapping

from quarry_miner.clicks.base import ClickModel
from quarry_miner.clicks.models.affine import TrustBiasAffine
from quarry_miner.clicks.models.coec import ClicksOverExpected
from quarry_miner.clicks.models.ctr import ClickThroughRate
from quarry_miner.clicks.models.pbm import PositionBased
from quarry_miner.clicks.models.sdbn import SimplifiedDbn
from quarry_miner.clicks.models.ubm import UserBrowsing

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
