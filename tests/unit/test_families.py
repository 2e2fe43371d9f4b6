"""The types of models and their settings, known at planning without transformers."""

import pytest
from speedgrid import estimates, families, planning
from speedgrid.study import StudyError

LLAMA = {"model_type": "llama", "hidden_size": 64}


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (LLAMA, ""),
        ({"model_type": "gpt2", "max_position_embeddings": 64, "n_embd": 64}, ""),  # another name of n_positions
        ({**LLAMA, "rope_theta": 1e4, "rope_scaling": None}, ""),  # old names, which the code asks for
        ({**LLAMA, "torch_dtype": "bfloat16", "bos_token_id": 1, "_attn_implementation": "eager"}, None),
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
    if said is not None:
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
