"""The report: one HTML file in which the threshold can be moved.

`report.py` is what users call. `seeing.py` sends each image through the network, once, `cards.py`
keeps what the page shows of it, `scale.py` chooses the thresholds that the slider stops at,
`images.py` turns pictures and maps into a few kilobytes each, `page.py` fills `report.html.jinja`,
`report.css` and `report.js`.
"""

from sklearn_ssimae.inspection._report.cards import Gathering
from sklearn_ssimae.inspection._report.report import mask_of, write_page, write_report
from sklearn_ssimae.inspection._report.seeing import Seen, see

__all__ = ["Gathering", "Seen", "mask_of", "see", "write_page", "write_report"]
