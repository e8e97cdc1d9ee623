"""The thin shell: the command ``papershell``, jobs, and Azure ML."""
