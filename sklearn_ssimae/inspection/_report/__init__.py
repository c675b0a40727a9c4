"""The report: one HTML file in which the threshold can be moved.

`report.py` is what users call. `cards.py` goes through the images, `scale.py` chooses the
thresholds that the slider stops at, `images.py` turns pictures and maps into a few kilobytes each,
`page.py` fills `report.html.jinja`, `report.css` and `report.js`.
"""

from sklearn_ssimae.inspection._report.report import write_report

__all__ = ["write_report"]
