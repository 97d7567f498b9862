from __future__ import annotations

import pytest
import torch
from torch import nn

from models.importing.names import compare
from models.importing.pickles import CheckpointError
from models.importing.source import open_checkpoint
from tests.models.importing import formats
from tests.models.importing.formats import FORMATS, write_chunks


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 1)
    )


def loaded(path, network, rules=()) -> dict[str, torch.Tensor]:
    """The network's tensors as the checkpoint has them, all of them."""
    checkpoint = open_checkpoint(path)
    report = compare(network.state_dict(), checkpoint.entries, rules)
    assert not report.of("missing", "shape differs", "type differs")
    return {name: checkpoint.read(source) for name, source in report.sources.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_gives_the_same_weights(form, network, tmp_path):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = FORMATS[form](state, tmp_path / "saved")
    back = loaded(path, network)
    assert set(back) == set(state)
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "distributed"])
def test_other_precisions_come_as_they_are(dtype, form, network, tmp_path):
    state = {
        n: t.to(dtype) if t.is_floating_point() else t for n, t in network.state_dict().items()
    }
    back = loaded(FORMATS[form](state, tmp_path / "saved"), network)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_views_transposes_and_shared_numbers(tmp_path):
    base = torch.arange(24.0)
    state = {
        "window": base[3:9].view(2, 3),
        "transposed": base.view(4, 6).T,
        "tied": base,
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 4),
    }
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        checkpoint = open_checkpoint(path)
        for name, tensor in state.items():
            assert torch.equal(checkpoint.read(name), tensor), name


def test_a_whole_module_is_read_without_its_class(network, tmp_path):
    path = tmp_path / "module.pt"
    torch.save(network, path)
    back = loaded(path, network)
    assert all(torch.equal(back[n], t) for n, t in network.state_dict().items())


@pytest.mark.parametrize("form", ["lightning", "lightning, namespace", "lightning, omegaconf"])
def test_hyperparameters_are_told(form, network, tmp_path):
    checkpoint = open_checkpoint(FORMATS[form](network.state_dict(), tmp_path / "saved"))
    assert checkpoint.settings == {"width": 12, "lr": 0.1}
    assert checkpoint.within == "state_dict"
    assert "Lightning" in checkpoint.form


def test_where_the_weights_lie_can_be_said(network, tmp_path):
    state = network.state_dict()
    torch.save({"teacher": state, "student": {n: t + 1 for n, t in state.items()}}, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"it has teacher, student; say which with 'within'"):
        open_checkpoint(tmp_path / "a")
    checkpoint = open_checkpoint(tmp_path / "a", "student")
    assert torch.equal(checkpoint.read("3.bias"), state["3.bias"] + 1)
    with pytest.raises(CheckpointError, match="no 'nobody'"):
        open_checkpoint(tmp_path / "a", "nobody")


def test_split_weights_say_how_to_join_them(network, tmp_path):
    state = network.state_dict()
    folder = FORMATS["deepspeed"](state, tmp_path / "a")
    model = folder / "global_step40" / "mp_rank_00_model_states.pt"
    torch.save({"module": {n: torch.empty(0) for n in state}}, model)
    with pytest.raises(CheckpointError, match=r"ZeRO stage 3; run DeepSpeed's zero_to_fp32\.py"):
        open_checkpoint(folder)
    torch.save({"module": state}, model)
    torch.save({"module": state}, model.with_name("mp_rank_01_model_states.pt"))
    with pytest.raises(CheckpointError, match="split over 2 ranks"):
        open_checkpoint(folder)


def test_one_ranks_part_is_not_taken_for_the_whole(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        mesh = init_device_mesh("cpu", (1,))
        part = distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)])
        torch.save({"weight": part}, tmp_path / "rank_0.pt")
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(CheckpointError, match="one rank's part of tensors that are split"):
        open_checkpoint(tmp_path / "rank_0.pt")


def test_a_folder_of_several_asks_for_one(network, tmp_path):
    for i in range(3):
        torch.save(network.state_dict(), tmp_path / f"s_{i}_checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"holds 3 checkpoints .*name one of them"):
        open_checkpoint(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match="holds no weights"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="there is no such file"):
        open_checkpoint(tmp_path / "nothing.pt")


def test_a_chunk_that_is_missing_is_noticed(network, tmp_path):
    folder = write_chunks(network.state_dict(), tmp_path / "a")
    (folder / "__1_0.distcp").unlink()
    checkpoint = open_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"'__1_0\.distcp' is missing"):
        checkpoint.read("3.weight")


def test_the_lightning_that_is_installed_is_read(tmp_path):
    """A checkpoint that Lightning's own trainer wrote, not ours."""
    import lightning

    class Small(lightning.LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = nn.Linear(width, 1)

        def training_step(self, batch, index):
            return self.model(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(4, 3)))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Small(width=3)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = open_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint.settings == {"width": 3}
    back = loaded(tmp_path / "last.ckpt", module.model)
    assert torch.equal(back["weight"], module.model.weight)
    written = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(written) == set(formats.lightning({"a": torch.zeros(1)}, {}))
