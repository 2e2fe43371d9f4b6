"""From result files to the page: tables.py (figures) → charts/ and answer.py (what they show and say) → page.py (the page).

units.py writes numbers for people. collect.py reads the records and rendering.py writes the page; everything else here is pure.
"""
