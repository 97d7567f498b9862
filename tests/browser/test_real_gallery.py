"""Real files on the patient page: CT, DICOM series, ECG and echo cine, each one patient."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import examples

from analysis.cohort.importers.recordings import import_recordings
from analysis.cohort.importers.scans import import_scans
from tests.browser.conftest import serving
from tests.browser.driver import Reader

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCANS = {
    "real_ct": "ct/pulmonary/ct_cropped.nii.gz",
    "real_series": "ct/dicom_series",
}
RUNS = ("pe-late-onehot", "pe-ct", "hf-tgmm", "hf-ecg", "hf-echo")


@pytest.fixture(scope="module")
def workspace(
    real_data: Callable[[str], Path], tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny cohorts that shipped runs belong to, and beside them the real patients."""
    folder = tmp_path_factory.mktemp("gallery") / "workspace"
    parts = [f"cohorts/{name}" for name in ("pe", "hf")] + [f"runs/{name}" for name in RUNS]
    for part in ("encoders", *parts):
        shutil.copytree(tiny_workspace / part, folder / part, copy_function=os.link)
    cohorts = folder / "cohorts"
    for name, file in SCANS.items():
        import_scans(real_data(file), cohorts / name, cohorts / "pe")
    import_recordings(real_data("ecg") / "s0010_re.hea", cohorts / "real_ecg", cohorts / "hf")
    cine = tmp_path_factory.mktemp("cine")
    shutil.copy(examples.get_path("ybr_color"), cine)
    views = {Path(examples.get_path("ybr_color")).name: "A4C"}
    import_recordings(cine, cohorts / "real_echo", cohorts / "hf", views)
    return folder


@pytest.fixture(scope="module")
def reader(
    browser: Any, workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reader]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    with serving(workspace, tmp_path_factory.mktemp("server")) as address:
        yield Reader(context.new_page(), address)
    context.close()


def test_the_real_patients_are_listed(reader: Reader) -> None:
    reader.open()
    text = reader.text()
    for name in (*SCANS, "real_ecg", "real_echo"):
        assert f"({name})" in text
    assert "cannot be used" not in text


@pytest.mark.parametrize(
    ("cohort", "task", "run", "section", "viewer"),
    [
        ("real_ct", "mortality", "pe-late-onehot", "ct", ".ct"),
        ("real_series", "mortality", "pe-ct", "ct", ".ct"),
        ("real_ecg", "hf", "hf-tgmm", "ecg", ".ecg"),
        ("real_echo", "hf", "hf-tgmm", "echo", ".echo"),
    ],
)
def test_a_map_lies_on_the_patient_s_own_data(
    reader: Reader, cohort: str, task: str, run: str, section: str, viewer: str
) -> None:
    query = f"task={cohort}/{task}&patient=1&strategy={run}&section={section}"
    reader.open("patient", query)
    reader.tab.locator(f"{viewer}[data-ready=true]").first.wait_for(timeout=60_000)
    text = reader.text()
    assert "The strategy was trained on another cohort" in text
    assert "Traceback" not in text
    assert "nan" not in text.lower().split()
