"""Full-batch solvers as step objects: they ask for a point and are told value and gradient.

    solver = LBFGS(start, max_iter=100, tol=1e-6)
    while not solver.done:
        solver.tell(*objective(solver.point))
    solver.x, solver.history

Nothing here calls the objective, so one round on the cluster serves any solver, and a solver can
be saved between two rounds (`Solver.state`). All arithmetic is float64. `maxIter`, `tol` and the
history mean what they do in Breeze, MLlib's optimisation library.
"""

from sparknn.solvers.base import Solver
from sparknn.solvers.conjugate import ConjugateGradient
from sparknn.solvers.gradient import GradientDescent
from sparknn.solvers.lbfgs import LBFGS
from sparknn.solvers.owlqn import OWLQN
from sparknn.solvers.projected import ProjectedLBFGS

__all__ = ["ConjugateGradient", "GradientDescent", "LBFGS", "OWLQN", "ProjectedLBFGS", "Solver"]
