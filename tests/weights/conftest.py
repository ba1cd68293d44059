import pytest
import torch
from support import REFERENCE
from support.encoders import embed

import vie_models as vie


@pytest.fixture(scope="module")
def clip():
    return torch.randn(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(clip):
    """What the checkpoint, read directly, makes of the clip."""
    return embed(vie.create_model("vie_3dresnet", checkpoint_path=REFERENCE / "checkpoint-3.tar", width=4), clip)
