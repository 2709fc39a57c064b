"""``task_defs/`` and ``experiments/`` lie at the top level and are shipped inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mtdnn", "mtdnn.*"]), "mtdnn.task_defs", "mtdnn.experiments"],
    package_dir={"mtdnn.task_defs": "task_defs", "mtdnn.experiments": "experiments"},
    package_data={
        "mtdnn": ["py.typed"],
        "mtdnn.report": ["page.html"],
        "mtdnn.task_defs": ["*.yaml"],
        "mtdnn.experiments": ["*.yaml", "*.md"],
    },
)
