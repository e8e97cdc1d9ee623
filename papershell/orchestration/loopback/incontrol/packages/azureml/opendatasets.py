"""Stands in for azureml.opendatasets, whose pyspark no current Python can install: papershell's MNIST."""

import os

_FOLDER = "opendatasets/mnist"


class MNIST:
    """The four files of MNIST, as a data set of the workspace's default datastore."""

    @staticmethod
    def get_file_dataset(enable_telemetry=True):
        """Return a FileDataset of the files that papershell finds or downloads; the first call uploads them."""
        from azureml.core import Dataset, Workspace

        from papershell.trainers.datasets import find_idx_files, resolve

        store = Workspace.from_config().get_default_datastore()
        files = [os.path.abspath(path) for path in find_idx_files(resolve("mnist")).values()]
        folder = os.path.commonpath([os.path.dirname(path) for path in files])
        store.upload_files(files, relative_root=folder, target_path=_FOLDER, show_progress=False)
        return Dataset.File.from_files((store, _FOLDER), validate=False)

    @staticmethod
    def get_tabular_dataset(dataset_filter="all", enable_telemetry=True):
        """Refuse: the table is not made here."""
        raise NotImplementedError(
            "papershell's stand-in for azureml.opendatasets has no table of MNIST; use MNIST.get_file_dataset()"
        )
