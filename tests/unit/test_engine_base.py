"""What every engine refuses before it computes: tokens and positions that a model does not have."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from speedgrid.engines.language import Language
from speedgrid.outcomes import Unsupported


def language(**config):
    """A configuration and a tokenizer without a model."""
    told = {"vocab_size": 320, "max_position_embeddings": 16, "model_type": "gpt2", **config}
    tokenizer = SimpleNamespace(decode=lambda tokens, skip_special_tokens: f"<{tokens[0]}>")
    return Language(Path(), SimpleNamespace(**told, to_dict=lambda: told), tokenizer)


def test_a_token_without_an_embedding_is_named_with_its_text():
    language().check_tokens([0, 319])
    language().check_tokens([])
    with pytest.raises(Unsupported, match=r"makes token 320 \('<320>'\) of the text, and the model has embeddings of 320 tokens"):
        language().check_tokens([1, 320, 2])


@pytest.mark.parametrize(
    ("config", "room", "refused"),
    [
        ({}, 17, False),  # the last token of a reply is never fed
        ({}, 18, True),
        ({"rope_theta": 10000.0}, 18, True),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, 60, False),  # made to go on
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, 65, False),
        ({"max_position_embeddings": None}, 4096, False),
        ({"max_position_embeddings": -1}, 4096, False),  # as XLNet says that none are meant
    ],
)
def test_room_beyond_the_positions_that_a_model_was_made_for_is_refused(config, room, refused):
    """Rotary embeddings went on beyond them, and the replies counted as any others."""
    if not refused:
        language(**config).refuse_room(room)
        return
    with pytest.raises(Unsupported, match="gpt2 was made for 16 positions, and prompt and reply together need 17"):
        language(**config).refuse_room(room)


def test_rotary_embeddings_that_are_stretched_end_where_they_were_stretched_to():
    """Qwen2.5's recipe for 131,072 positions was refused beyond 32,768."""
    recipe = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    stretched = language(max_position_embeddings=32768, model_type="qwen2", rope_scaling=recipe)
    stretched.refuse_room(131073)
    with pytest.raises(Unsupported, match="qwen2 was made for 131,072 positions, and prompt and reply together need 131,073"):
        stretched.refuse_room(131074)


def test_a_text_of_which_a_tokenizer_makes_nothing_is_refused():
    read = Language(Path(), language().config, lambda text, **_: {"input_ids": []})
    with pytest.raises(Unsupported, match="the tokenizer of the checkpoint makes no token of the text"):
        read.tokenize("def")
    assert read.tokenize("") == []


@pytest.mark.parametrize(
    ("told", "ends"), [({"eos_token_id": 2}, [2]), ({"eos_token_id": [2, 3]}, [2, 3]), ({}, [7]), ({"eos_token_id": "</s>"}, None)]
)
def test_tokens_that_end_a_reply_are_numbers(tmp_path, told, ends):
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    read = Language(tmp_path, language(eos_token_id=7).config, SimpleNamespace(eos_token_id=9))
    if ends:
        assert read.end_tokens() == ends
    else:
        with pytest.raises(Unsupported, match="names '</s>' as the token that ends a reply"):
            read.end_tokens()
