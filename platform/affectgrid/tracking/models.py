"""Model packages as MLflow's models: written to a folder, logged with their run, registered, and fetched again."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import affectgrid
from affectgrid.credentials import without_credentials
from affectgrid.errors import Problem, TrackingError
from affectgrid.storage import cache_folder, replace_directory
from affectgrid.tracking.connection import client, refusal, unreachable
from affectgrid.tracking.pages import NOTE

if TYPE_CHECKING:  # torch takes seconds, and most that logs a run can do without it
    from affectgrid.training.inference.package import ModelPackage

CHAMPION = "champion"  # the alias of the version that was registered last
CARD = "README.md"  # of a package: what the model is
_MAX_DESCRIPTION = 5000  # characters, of a version in the registry
_SOURCE = Path(affectgrid.__file__).parent
_PACKAGE = "package"  # the artefact's name in the model, and its folder's
_DIGEST = "affectgrid.digest"  # the tag by which a logged model is found again
_FOR_FEATURES = ("jaxtyping", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "scipy", "torch")
_FOR_VIDEOS = ("av", "open_clip_torch", "pillow", "psutil", "torchvision", "transformers", "tyro")
_FOR_FACES = {"dlib": ("dlib-bin",), "mtcnn": ("mtcnn",)}
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?")
_IN_NAMES = re.compile(r"[/:.%\"']")  # what MLflow refuses in the name of a model


def write_model(package: Path, target: Path, *, whole: bool = False) -> Path:
    """Write a model package as an MLflow model, which holds the code and pins the libraries that it needs.

    With `whole` encoders that are directories of this machine go along. Nothing but `target` is touched, and no server
    is asked. Raises ModelError as `load_package` does.
    """
    from affectgrid.training.inference.package import carry_encoders, load_package

    loaded = load_package(package)
    with _quiet(), _unchecked_pins(), tempfile.TemporaryDirectory() as folder:
        import mlflow.pyfunc

        content = shutil.copytree(package, Path(folder) / _PACKAGE)
        if whole:
            carry_encoders(content)
        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(_SOURCE / "serving.py"),
            artifacts={_PACKAGE: str(content)},
            code_paths=[str(_SOURCE)],
            pip_requirements=requirements(loaded),
            signature=_signature(loaded),
        )
        if (content / CARD).exists():
            shutil.copy(content / CARD, target)
    return target


def requirements(package: ModelPackage) -> list[str]:
    """What a prediction imports, pinned to the versions of this process; less than the project's own list."""
    from affectgrid.data.features.streams import streams_of

    names = [*_FOR_FEATURES]
    if reads_videos(package):
        visual, audio = streams_of(package.encoders)
        names += _FOR_VIDEOS
        names += _FOR_FACES[visual.detector] if visual.crop != "frame" else ()
        names += ["openvino"] if "openvino" in (visual.runtime, audio.runtime) else []
    found = []
    for name in ["mlflow", *sorted(names)]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # dlib is an extra
            # a build such as 2.9.0+cpu is no release of the package index
            found.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
    return found


def reads_videos(package: ModelPackage) -> bool:
    """Whether a video can be encoded by what the package says alone.

    Features that no encoder made cannot be made again, and an int8 encoder was calibrated on pictures and sounds of the
    training: on others it would be another one.
    """
    from affectgrid.data.features.streams import streams_of

    if not {"visual_stream", "audio_stream"} <= package.encoders.keys():
        return False
    return "int8" not in {stream.precision for stream in streams_of(package.encoders)}


def _signature(package: ModelPackage) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    from affectgrid.training.inference.details import BOX, detail_names

    numbers = Array(DataType.double)
    given = [ColSpec(Array(numbers), f"{name}.feature", required=False) for name in package.model.feature_dims]
    given += [ColSpec(numbers, "time_s", required=False), ColSpec("string", "track", required=False)]
    if reads_videos(package):
        given = [ColSpec("string", "video", required=False), ColSpec("binary", "content", required=False), *given]
    told = {"input": "long", "track": "string", "frame": "integer", "time_s": "double"}
    told |= dict.fromkeys(["valence", "arousal", *detail_names(package)], "float")
    outputs = [ColSpec(kind, name) for name, kind in told.items()]
    outputs += [ColSpec("float", name, required=False) for name in ("face_found", *BOX)]
    fill = ParamSpec("fill", DataType.string, "")
    return ModelSignature(Schema(given), Schema(outputs), ParamSchema([fill]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's advice on type hints and its account of every step."""
    noisy = [logging.getLogger(name) for name in ("mlflow.pyfunc", "mlflow.models.model", "mlflow.models.utils")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _unchecked_pins() -> Iterator[None]:
    """Without MLflow's check of the pins, which come from what is installed: it reads all packages there (0.7 s)."""
    from mlflow.utils import environment

    check = environment.warn_dependency_requirement_mismatches
    environment.warn_dependency_requirement_mismatches = lambda _: None
    try:
        yield
    finally:
        environment.warn_dependency_requirement_mismatches = check


def model_record(model: Path, *, name: str, metrics: Mapping[str, float], register: str | None) -> dict[str, Any]:
    """What `deliver_model` needs, of a folder that `write_model` wrote."""
    package, digest = model / "artifacts" / _PACKAGE, hashlib.sha256()
    for file in ("config.json", "model.safetensors"):  # all that a prediction depends on, and what was taken along
        digest.update((package / file).read_bytes())
    digest.update(repr(sorted(path.name for path in package.glob("encoders/*"))).encode())
    card = (package / CARD).read_text() if (package / CARD).exists() else ""
    own = {"op": "model", "path": str(model), "name": _IN_NAMES.sub("-", name), "digest": digest.hexdigest()[:32]}
    return {**own, "card": card, "metrics": dict(metrics), "register": register}


def deliver_model(uri: str, run_id: str, record: Mapping[str, Any]) -> None:
    """Make the logged model of a run from a folder, and its version in the registry, each unless it is there.

    A kill can come anywhere in between: what is not READY is made again.
    """
    mlflow = client(uri)
    experiment_id = mlflow.get_run(run_id).info.experiment_id
    condition = f"source_run_id = '{run_id}' and tags.`{_DIGEST}` = '{record['digest']}'"
    ready = None
    for found in mlflow.search_logged_models([experiment_id], condition):
        if found.status.value == "READY":
            ready = found
        else:
            mlflow.delete_logged_model(found.model_id)
    model_id = ready.model_id if ready else _make(mlflow, experiment_id, run_id, record)
    if record["register"]:
        _register(mlflow, record["register"], model_id, run_id, record["card"])


def _make(mlflow: Any, experiment_id: str, run_id: str, record: Mapping[str, Any]) -> str:
    from mlflow.entities import LoggedModelOutput, Metric
    from mlflow.models import Model
    from mlflow.utils.time import get_current_time_millis

    params = mlflow.get_run(run_id).data.params
    tags = {_DIGEST: record["digest"], NOTE: record["card"]}
    made = mlflow.create_logged_model(experiment_id, record["name"], run_id, tags, params, "pyfunc")
    folder = Path(record["path"])
    described = Model.load(str(folder / "MLmodel"))
    described.run_id, described.model_id, described.artifact_path = run_id, made.model_id, made.artifact_location
    described.save(str(folder / "MLmodel"))
    mlflow.log_model_artifacts(made.model_id, str(folder))
    mlflow.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    now = get_current_time_millis()
    metrics = [
        Metric(f"model/{name}", value, now, 0, model_id=made.model_id, run_id=run_id)
        for name, value in record["metrics"].items()
    ]
    mlflow.log_batch(run_id, metrics=metrics)
    mlflow.finalize_logged_model(made.model_id, "READY")
    return str(made.model_id)


def _register(mlflow: Any, name: str, model_id: str, run_id: str, card: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = mlflow.get_logged_model(model_id).artifact_location  # models:/ID is looked up in the process's own store
    versions = [one for one in mlflow.search_model_versions(f"name = '{name}'") if one.source == source]
    if not versions:
        told = card[:_MAX_DESCRIPTION]
        versions = [mlflow.create_model_version(name, source, run_id, description=told, model_id=model_id)]
    mlflow.set_registered_model_alias(name, CHAMPION, versions[0].version)


def is_model_address(place: object) -> bool:
    """Whether a place is MLflow's address of a model, such as ``models:/affect@champion``."""
    return str(place).startswith("models:/")


def fetch_model(uri: str, address: str) -> Path:
    """The model package of a registered or logged model, copied into the cache of this node once.

    Args:
        uri: of the MLflow store.
        address: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or ``models:/m-ID`` of a logged model.

    Raises TrackingError: TRK-MODEL where there is no such model, or none of ours, and what a server refuses with.
    """
    from mlflow.exceptions import MlflowException

    try:
        name, location = _find(client(uri), address)
        place = hashlib.sha256(f"{without_credentials(uri)} {location}".encode()).hexdigest()[:16]
        folder = cache_folder() / "models" / place / name / "model"
        if not (folder / "config.json").exists():
            _download(uri, location, folder)
        return folder
    except (MlflowException, OSError, LookupError) as error:
        if refused := refusal(uri, error):
            raise refused from None
        found = without_credentials(str(error)).splitlines()[0]
        if getattr(error, "error_code", "") == "INTERNAL_ERROR":
            raise unreachable(uri, found) from None
        hint = "mlflow ui lists the registered models; jobs/train.py and jobs/tune.py make one with --register NAME"
        expected = "models:/NAME@champion, models:/NAME/VERSION or models:/m-ID, logged by this project"
        raise TrackingError(Problem("TRK-MODEL", where=address, found=found, expected=expected, hint=hint)) from None


def _find(mlflow: Any, address: str) -> tuple[str, str]:
    """A short name of a model, and where its files are."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise LookupError("another kind of address")
    name, alias, version = match["name"], match["alias"], match["version"]
    if alias is None and version is None:
        return name, str(mlflow.get_logged_model(name).artifact_location)
    number = version or mlflow.get_model_version_by_alias(name, alias).version
    return f"{name}-v{number}", str(mlflow.get_model_version_download_uri(name, number))


def _download(uri: str, location: str, folder: Path) -> None:
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as temporary, _quiet():
        files = f"{location.rstrip('/')}/artifacts/{_PACKAGE}"
        found = mlflow.artifacts.download_artifacts(artifact_uri=files, dst_path=temporary, tracking_uri=uri)
        with replace_directory(folder) as draft:
            shutil.copytree(found, draft, dirs_exist_ok=True)
