"""The report: one HTML file in which the threshold can be moved and the images judged.

`report.py` is what users call. `seeing.py` sends each image through the network, once;
`cards.py` gathers scores and cards, one image at a time;
`regions.py` finds what is marked in an image, and which parts are kept at their own scale;
`images.py` turns pictures and maps into a few kilobytes each; `scale.py` chooses the thresholds
that the slider stops at; `page.py` fills `report.html.jinja`, styles and scripts.

The scripts are one program: `codec.js` unpacks maps and draws outlines, `report.js` has the cards,
the threshold and the counts, `verdicts.js` what people say, `viewer.js` the view at full size,
`list.js` filters, keys and print, and starts it all.
"""

from sklearn_ssimae.inspection._report.cards import Gathering
from sklearn_ssimae.inspection._report.report import mask_of, write_page, write_report
from sklearn_ssimae.inspection._report.seeing import Seen, see

__all__ = ["Gathering", "Seen", "mask_of", "see", "write_page", "write_report"]
