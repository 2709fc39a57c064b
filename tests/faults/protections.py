"""What protects against each fault, taken out: the fault's test must then fail (``make test-protections``).

Each is a :class:`mutations.Mutation`; ``change`` begins with the fault's name.
"""

from faults import protections_data
from mutations import Mutation

PROTECTIONS: tuple[Mutation, ...] = (*protections_data.PROTECTIONS,)
