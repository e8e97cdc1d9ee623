"""Stands in for azureml.widgets, which cannot be installed beside IPython 9: the address of a run's page."""


class RunDetails:
    """A run to look at."""

    def __init__(self, run_instance):
        self.run_instance = run_instance

    def show(self, render_lib=None, widget_settings=None):
        """Print the address of the run's page."""
        print(f"run {self.run_instance.id}: {self.run_instance.get_portal_url()}")

    def get_widget_data(self, widget_settings=None):
        """Return the run's status and metrics."""
        return {"status": self.run_instance.get_status(), "run_metrics": self.run_instance.get_metrics()}
