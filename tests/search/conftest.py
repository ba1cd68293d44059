import pytest
from support.scenes import scene
from support.videos import write_video

import vie_models as vie
from vie_models.search import build_index


@pytest.fixture(scope="session")
def model():
    return vie.create_model("vie_twopathway_tiny", pretrained=True)


@pytest.fixture(scope="session")
def library(tmp_path_factory, model):
    """Videos of 14 scenes, each of 3.6 s, and an index of their clips: a clip each half second."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "videos").mkdir()
    for seed in range(14):
        write_video(folder / "videos" / f"scene{seed:02d}.mp4", scene(seed), codec="libx264")
    vie.Extractor(model, stride=0.5, workers=0).extract(folder / "videos", folder / "features")
    build_index(folder / "features")
    return folder
