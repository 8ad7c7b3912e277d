"""A sentence encoder for prompts: the real MiniLM where it could be fetched, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from affectgrid.encoders.sentences import SentenceEncoder
from affectgrid.errors import ModelError
from affectgrid.training.text_features import encode_prompts


@pytest.fixture(scope="module")
def encoder(media: Path) -> SentenceEncoder:
    folder = media / "all-MiniLM-L6-v2"
    if not folder.is_dir():
        pytest.skip("the sentence encoder is not here: `make media` fetches it")
    return SentenceEncoder(folder)


def test_sentences_of_one_meaning_are_near(encoder: SentenceEncoder):
    texts = ["a happy face", "a person who is smiling with joy", "a furious, angry person", "an enraged man", "a chair"]
    features = encoder.encode_texts(texts)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))
    near = features @ features.T
    assert near[0, 1] > max(near[0, 2], near[0, 4])
    assert near[2, 3] > max(near[2, 0], near[2, 4])
    alone = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(alone, features, atol=1e-5, rtol=0)  # padding counts for nothing


def test_prompts_of_near_regions_are_nearer_than_those_of_far_ones(encoder: SentenceEncoder, tmp_path: Path):
    prompts = encode_prompts(["3x3-face"], encoder, tmp_path)["3x3-face"]
    means = torch.stack([features.mean(0) for features in prompts.texts_features])
    assert means.shape == (9, 384)
    centres = prompts.grid.centres_tensor()
    unit = torch.nn.functional.normalize(means)
    apart, angle = torch.cdist(centres, centres), unit @ unit.T
    pairs = torch.triu_indices(9, 9, 1)
    together = torch.stack([apart[pairs[0], pairs[1]], angle[pairs[0], pairs[1]]])
    assert float(torch.corrcoef(together)[0, 1]) < -0.1  # the further apart, the less alike


def test_learnable_context_needs_clips_tower(encoder: SentenceEncoder, tmp_path: Path):
    with pytest.raises(ModelError, match=r"MOD-CONTEXT.*sentence encoder"):
        encode_prompts(["3x3-plain"], encoder, tmp_path, modes=["context"])


def test_what_is_no_model_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"MOD-TEXT .*nothere.*no such directory"):
        SentenceEncoder(tmp_path / "nothere")
    with pytest.raises(ModelError, match="MOD-WEIGHTS"):
        SentenceEncoder(tmp_path)
