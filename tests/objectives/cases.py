"""All cases by name: one for each listed objective, from one module for each family."""

import cases_clustering
import cases_contrastive
import cases_decorrelation
import cases_distillation
import cases_generative
import cases_hybrid

FAMILIES = (
    cases_contrastive,
    cases_decorrelation,
    cases_generative,
    cases_clustering,
    cases_distillation,
    cases_hybrid,
)
CASES = {case.objective.name: case for family in FAMILIES for case in family.CASES}
