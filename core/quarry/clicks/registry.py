"""The click models by name."""

from collections.abc import Mapping

from quarry.clicks.model import ClickModel
from quarry.clicks.models.affine import TrustBiasAffine
from quarry.clicks.models.coec import ClicksOverExpected
from quarry.clicks.models.ctr import ClickThroughRate
from quarry.clicks.models.pbm import PositionBased
from quarry.clicks.models.sdbn import SimplifiedDbn
from quarry.clicks.models.ubm import UserBrowsing

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
