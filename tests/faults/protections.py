"""What protects against each fault, taken out: the fault's test must then fail (``make test-protections``).

Each is a :class:`mutations.Mutation`; ``change`` begins with the fault's name.
"""

from faults import protections_data, protections_doctor, protections_runner, protections_runs
from mutations import Mutation

PROTECTIONS: tuple[Mutation, ...] = (
    *protections_runs.PROTECTIONS,
    *protections_runner.PROTECTIONS,
    *protections_doctor.PROTECTIONS,
    *protections_data.PROTECTIONS,
)
