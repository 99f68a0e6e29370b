"""Does adversarial training beside dropout prevent more memorizing? After Arpit et al. 2017, figure 10, on MLPs.

Uses the measures and figures of `regularization`.
"""

from __future__ import annotations

from memsweep.analysis.core import figures
from memsweep.analysis.questions import regularization

QUERY = regularization.QUERY
summarize = regularization.summarize

FIGURES = (
    figures.Figure(
        "trade-off",
        "Memorization prevented by dropout and adversarial training, accuracy kept",
        regularization.draw,
        "Along the curve dropout grows from none to 0.5, and the weight of critical samples from 0.2 to 0.7. To the "
        "left: random labels are fitted less; below: clean accuracy is lost. For dropout alone see the figure of the "
        "sweep regularization. After Arpit et al. (2017), figure 10, on MLPs instead of convolutional networks. Mean "
        "over seeds; bars: 95 % bootstrap intervals over seeds.",
        fixed=regularization.MEASURED,
    ),
)
