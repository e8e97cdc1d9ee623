"""Azure ML through azureml-core: a `TrainJob` becomes a run, and a workspace's records are read.

Only this package and `papershell.orchestration.loopback.client` import azureml, and only when a function needs
it. Every call of the SDK that can fail for a reason outside this program stands inside `sdk.asking`, which turns
the SDK's exception into one sentence. The SDK is version 1, whose support ended in June 2026; `export` writes the
same job for version 2.
"""
