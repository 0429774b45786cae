"""Parameters of the compiled pipeline, made from a TrainingRequest.

Each is one JSON text and not a struct: protobuf keeps every number of a struct as a double, so that an integer
hyperparameter would come back as 7.0 on one engine and 7 on another.
"""

from __future__ import annotations

from slipway.api.meta import Scalar
from slipway.api.modelproject import ProjectTests, Requirements, Task
from slipway.contracts.digests import canonical_json, digest_json
from slipway.contracts.jobs import Contract, StableResult, TrainingFeatureSet, TrainingRequest


class DataArguments(Contract):
    """Parameter `data`: the dataset version, the task, and what is joined to its rows."""

    namespace: str
    dataset: str
    dataset_version: str
    dataset_manifest: str
    dataset_digest: str
    task: Task
    inputs: list[str]
    feature_sets: list[TrainingFeatureSet]

    def feature_pipeline_digest(self) -> str:
        """Digest of the features' definitions, without the data that they are computed from."""
        return digest_json([{**item.wire(), "datasets": None} for item in self.feature_sets])


class CodeArguments(Contract):
    """Parameter `code`: the team's function, and what it is given beside data."""

    entrypoint: str
    image: str
    parameters: dict[str, Scalar]
    seed: int

    def parameters_digest(self) -> str:
        """Digest of hyperparameters and seed."""
        return digest_json({"parameters": self.parameters, "seed": self.seed})


class GoalArguments(Contract):
    """Parameter `goals`: what a good model is, and the version to compare with."""

    requirements: Requirements
    tests: ProjectTests
    stable: StableResult | None = None
    today: str


class RunArguments(Contract):
    """Parameter `run`: who asks, and where the model goes."""

    namespace: str
    project: str
    run: str
    run_uid: str
    pipeline_digest: str
    model_prefix: str
    result: str | None = None
    """Key to which the RegisterResult is written as well, where nobody else can hand it over."""


class Arguments(Contract):
    """All parameters."""

    data: DataArguments
    code: CodeArguments
    goals: GoalArguments
    run: RunArguments

    @classmethod
    def of(cls, request: TrainingRequest, result: str | None = None) -> Arguments:
        """The parameters of a run. `result`: key to which the judge writes its answer as well."""
        given = {name: getattr(request, name) for name in type(request).model_fields} | {"result": result}

        def part(model: type[Contract]) -> Contract:
            return model(**{name: given[name] for name in model.model_fields})

        return cls.model_validate(
            {
                "data": part(DataArguments),
                "code": part(CodeArguments),
                "goals": part(GoalArguments),
                "run": part(RunArguments),
            }
        )

    def pipeline_parameters(self) -> dict[str, str]:
        """Values by name, as the compiled pipeline takes them."""
        return {name: canonical_json(getattr(self, name).wire()).decode() for name in type(self).model_fields}


def configuration_digest(data: DataArguments, goals: GoalArguments) -> str:
    """Digest of task, inputs, requirements and tests; not of the version to compare with, nor of the day."""
    return digest_json(
        {
            "task": data.task.wire(),
            "inputs": data.inputs,
            "requirements": goals.requirements.wire(),
            "tests": goals.tests.wire(),
        }
    )
