"""From result files to the page: tables.py (figures) → charts/ and answer.py (what they show and say) → page.py (the page).

units.py writes numbers for people. Everything here is pure: aggregate.py and render_report.py read and write the files.
"""
