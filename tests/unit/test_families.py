"""The types of models and their settings, known at planning without transformers."""

import pytest
from speedgrid import estimates, families, planning, rotary
from speedgrid.study import StudyError

LLAMA = {"model_type": "llama", "hidden_size": 64}


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (LLAMA, ""),
        ({"model_type": "gpt2", "max_position_embeddings": 64, "n_embd": 64}, ""),  # another name of n_positions
        ({**LLAMA, "rope_theta": 1e4, "rope_scaling": None}, ""),  # old names, which the code asks for
        ({**LLAMA, "torch_dtype": "bfloat16", "bos_token_id": 1, "_attn_implementation": "eager"}, ""),
        ({"model_type": "gemma3", "text_config": {"hidden_size": 64, "num_hidden_layers": 2}}, ""),
        ({"model_type": "lama"}, "model_type: 'lama' is none that transformers 5.23.0 knows; did you mean llama"),
        ({"model_type": "resnett"}, "model_type: 'resnett' is none that transformers 5.23.0 knows; did you mean resnet"),
        ({"model_type": "t5x"}, "model_type: 't5x' is none that transformers"),
        ({**LLAMA, "num_layerz": 2}, "num_layerz: llama has no such setting; did you mean"),
        ({**LLAMA, "hiden_size": 2}, "hiden_size: llama has no such setting; did you mean hidden_size?"),
        ({**LLAMA, "wormholes": 2}, "wormholes: llama has no such setting; allowed are "),
        (
            {"model_type": "gemma3", "text_config": {"hiden_size": 64}},
            "text_config.hiden_size: gemma3_text has no such setting; did you mean hidden_size?",
        ),
        ({"model_type": "wav2vec2"}, "model_type: wav2vec2 is a model of speech or sound; random weights are of language models and"),
        ({"model_type": "m2m_100"}, "model_type: m2m_100 is a model with an encoder beside its decoder; random weights are of"),
    ],
)
def test_a_type_or_setting_that_there_is_not_is_told_with_the_nearest_that_there_is(architecture, said):
    found = families.problem(architecture)
    assert found.startswith(said) if said else found == ""


def test_a_mistyped_setting_is_a_mistake_of_the_study(tmp_path):
    """It passed planning, and its job failed after the environments were made."""
    study = """\
study: mine
gpus: {here: {device: cpu}}
models: {tiny: {architecture: {model_type: llama, num_hiden_layers: 2}}}
experiments: {generate: {models: [tiny], techniques: [baseline], prompt_tokens: 8, dtype: float32, evaluate: false}}
"""
    (tmp_path / "mine.yaml").write_text(study)
    with pytest.raises(StudyError) as caught:
        planning.read_grid(tmp_path / "mine.yaml")
    assert str(caught.value).endswith(
        "mine.yaml: models.tiny.architecture.num_hiden_layers: llama has no such setting; did you mean num_hidden_layers?"
    )


@pytest.mark.parametrize("name", estimates.shapes())
def test_the_published_shapes_have_settings_of_their_types_alone(name):
    architecture = estimates.shapes()[name]["architecture"]
    assert families.problem(architecture) == ""
    assert families.positions(architecture) or architecture["model_type"] in families.table()["kinds"][families.IMAGES]


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "text"),
        ({"model_type": "llama"}, "text"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "text"),
        ({"model_type": "of-its-own-code", "architectures": ["StrangeForCausalLM"]}, "text"),
        ({}, "text"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "text"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "text"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "encoder"),
        ({"model_type": "xlm-roberta"}, "encoder"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "classifier"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "seq2seq"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "seq2seq"),
        ({"model_type": "whisper", "is_encoder_decoder": True}, "speech"),
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}, "speech"),
        ({"model_type": "vit", "architectures": ["ViTForImageClassification"]}, "images"),
        ({"model_type": "resnet"}, "images"),
        ({"model_type": "dinov2", "architectures": ["Dinov2Model"]}, "encoder"),
        ({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}, "parts"),
        ({"model_type": "detr", "architectures": ["DetrForObjectDetection"]}, "other"),
        ({"model_type": "llama", "architectures": None}, "text"),
    ],
)
def test_the_kind_of_a_model_is_read_off_its_configuration(config, kind):
    assert families.kind_of(config) == kind
    assert kind in families.KINDS


def test_the_positions_are_those_of_the_configuration_or_of_its_type():
    assert families.positions({"model_type": "gpt2", "n_positions": 64}) == 64
    assert families.positions({"model_type": "gpt2"}) == 1024
    assert families.positions({"model_type": "gemma3", "text_config": {"max_position_embeddings": 77}}) == 77
    assert families.positions({"model_type": "mamba"}) is None
    assert families.positions({"model_type": "nobody knows"}) is None
    assert families.positions({"max_position_embeddings": "many"}) is None
    assert families.positions({"model_type": "llama", "max_position_embeddings": None}) is None


def yarn(factor: object, original: object) -> dict:
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


@pytest.mark.parametrize(
    ("config", "reach"),
    [
        # Qwen2.5's recipe, under both names, and configurations that have the product themselves, such as DeepSeek-V3's and gpt-oss's.
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 131072),
        ({"max_position_embeddings": 32768, "rope_parameters": yarn(4.0, 32768)}, 131072),
        ({"max_position_embeddings": 40960, "rope_parameters": yarn(4.0, 32768)}, 131072),
        ({"max_position_embeddings": 163840, "rope_parameters": yarn(40, 4096)}, 163840),
        (
            {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": 32}},
            131072,
        ),
        # Vicuna's of 16,384.
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 131072, "rope_parameters": {**yarn(32.0, 8192), "rope_type": "llama3"}}, 131072),
        ({"text_config": {"max_position_embeddings": 64, "rope_parameters": {"a": yarn(2.0, 64), "b": {"rope_type": "default"}}}}, 128),
        ({"model_type": "gemma3_text", "max_position_embeddings": 131072, "rope_scaling": {"type": "linear", "factor": 8}}, 131072),
        # Of no meaning.
        ({"max_position_embeddings": 64, "rope_parameters": yarn("4", "64")}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": yarn(None, None)}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": yarn(float("inf"), -1)}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": "yarn"}, 64),
    ],
)
def test_stretched_rotary_embeddings_reach_further_than_they_were_trained_with(config, reach):
    assert families.positions(config) == families.limit(config) == reach


@pytest.mark.parametrize("kind", rotary.CHANGING)
def test_rotary_embeddings_that_change_with_the_length_set_no_limit(kind):
    config = {"max_position_embeddings": 64, "rope_parameters": {"full_attention": {"rope_type": kind, "factor": 2.0}}}
    assert families.positions(config) == 64
    assert families.limit(config) is None
