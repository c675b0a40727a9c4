"""What users read of all detectors: shared docstrings, public names, where the documentation is."""

from __future__ import annotations

from typing import TypeVar

Class = TypeVar("Class", bound=type)

# Where the documentation is published. Nothing else says so.
DOCUMENTATION_URL = "https://sklearn-ssimae.readthedocs.io/en/stable/"
# The page of an estimator, for scikit-learn's diagrams in notebooks.
DOC_LINK_TEMPLATE = DOCUMENTATION_URL + "generated/{estimator_module}.{estimator_name}.html"

COMMON_PARAMETERS = """\
    latent_dim : int, default=100
        Dimension d of the latent space. The paper takes 100 for textures.
    patch_size : int, default=128
        Side of the square patches in pixels, a multiple of 16. A smaller image is padded
        by replication.
    n_patches : int, default=1000
        Random crops that an epoch sees (paper: 10000).
    max_iter : int or None, default=None
        Epochs at most (paper: 200). None: 30, 70 where more than a fifth of the mean
        image's residual is left after 18 of them, or 10 where less than a tenth of kept images'
        local contrast is redrawn after 5 of them. `FMAEDetector` stays at 30.
    augment : bool, default=False
        Whether crops are rotated and flipped at random, in all eight ways. For textures that
        look alike from all sides, when there are few images.
    vary : dict or None, default=None
        How much light and pose of the images to come differ from those given, at most:
        ``{"light": 0.2, "turn": 3, "zoom": 0.03}`` for 20 % of brightness and of contrast, 3
        degrees and 3 % of size, either way; a name left out means no variation. Crops in training,
        and kept images, are changed at random so far.
    batch_size : int, default=32
        Crops in a gradient step. Most of them have something drawn into them, and the network
        learns to redraw them clean: otherwise it would break down at a defect.
    learning_rate_init : float, default=2.5e-3
        Learning rate of Muon, which steps the weights, and five times that of Adam, which steps
        biases and layers of one channel: the constant one, or the trapezoid's height.
    learning_rate : {"trapezoid", "constant"}, default="trapezoid"
        Schedule of the learning rate. "trapezoid" climbs over the first 5 % of the steps, and
        falls to nearly 0 over the last 40 %; in 70 epochs of `max_iter=None` it climbs as in 30.
    weight_decay : float, default=1e-5
        Share of Muon's weights that a step subtracts, times the learning rate, besides the
        gradient. The default is the paper's, and so small that it hardly acts; 1 does.
    tol : float, default=1e-4
        Smallest decrease of the loss that counts as an improvement.
    n_iter_no_change : int, default=10
        Training stops after so many epochs in a row without improvement. Epochs before the
        network is better than the mean image do not count. Nor do those before the learning rate
        falls, since the loss falls once more with it.
    validation_fraction : float, default=0.1
        Share of the good images that is kept from training, in (0, 1). `smoothing`, the values
        that maps are relative to, and the threshold are learnt from them. Of up to ten images of
        two patches or more, a strip of each is kept instead of whole images; also of up to fifty
        that are long enough for a strip of a patch to be that share. Copies of an image count as
        one; more than 1000 images are not searched for copies. A fit that continues keeps the
        same images.
    stride : int or None, default=None
        Step in pixels between patches when an image is scored, at most `patch_size` (a
        longer one is cut to it). None: half of it, at which the weights of the overlaps add up
        to 1 (paper: 30). The last row and column of patches end at the border. Time goes with
        its inverse square.
    aggregate : {"reconstruction", "residual"}, default="reconstruction"
        What is averaged where patches overlap: reconstructions, so that the map is
        computed on the whole image, or the maps of the patches. A patch's centre weighs most
        (a Hann window).
    scale : float, default=1.0
        Images are resized by this factor first (anti-aliased); maps come back at the
        input's size. `patch_size`, `stride`, `opening_diameter` and `smoothing` are pixels
        of the resized image.
    region : array-like of shape (h, w), path of a mask image, or None, default=None
        The pixels that count, in images of one size: True or white where to inspect. Elsewhere
        nothing is learnt, maps are 0 (of logarithms the smallest value inside) and masks False.
        Transparent pixels of an image file do not count either. None: all pixels count.
    residual : {"relative", "plain"}, default="relative"
        Values of the map. "relative": the ratio to the residual of good images at that place. 1
        is their 95 % quantile at the same distance from the image's border and, where that pays
        and all images have one size, in the same column or row. A residual that is a logarithm is
        compared by difference, and 0 is that quantile.
        "plain": the residual itself, as in the paper.
    opening_diameter : int or None, default=4
        Diameter in pixels of the disk with which the map is opened: smaller specks vanish.
        None for no opening.
    min_area : int, default=0
        Pixels of the smallest region that counts, at the image's own size; 0 for all. Smaller ones
        are removed from the map itself (an opening by area), above the threshold and above 1.
        Pixels that share an edge or a corner belong to one region.
    smoothing : "auto" or float, default="auto"
        Standard deviation in pixels of the Gaussian that smooths the map before it is opened;
        0 for none. It averages out the small errors of the network everywhere, and blurs the
        outlines of the defects. "auto": the value that finds defects drawn into kept images
        best.
    contamination : "auto" or float in (0, 0.5], default="auto"
        "auto": a good image that was not trained on exceeds the threshold with a probability
        of 1 %, estimated from the kept images. A number: that share of the good images given to
        fit (of 1000 at most) exceeds it.
    threshold : float or None, default=None
        Map value above which a pixel is a defect; takes precedence over `contamination`. It
        acts at once when it is set after fit.
    image_shape : (h, w) or (h, w, c) or None, default=None
        Shape of flattened rows. None: a square if n_features is a square number, else a strip
        of one line.
    data_range : (low, high) or None, default=None
        Values mapped to 0 and 1. None: the dtype's range for uint8 and uint16, [0, 1] for
        others that lie in it, else the smallest and largest training value.
    device : str, default="auto"
        The torch device of `fit`, which leaves the network there; "auto" takes CUDA, then MPS,
        then the CPU. A loaded detector scores on the CPU.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" runs the network under autocast, in training and in scoring; faster on
        processors made for it.
    warm_start : bool, default=False
        Whether another fit continues from the network of the last one.
    checkpoint : str, path or None, default=None
        File to which fit writes its state after each epoch. After a crash the same fit continues
        from it; it is removed when fit is done. An existing folder: it gets a file for each
        combination of parameters and data, as searches need. None for no checkpoint.
    verbose : int, default=0
        1 prints a line an epoch (loss, speed, time left), and what map and threshold rest on.
    random_state : int, RandomState or None, default=None
        Source of the initial weights, the crops and all other random numbers. An int makes fit
        repeatable bit for bit on one machine."""

COMMON_ATTRIBUTES = """\
    network_ : torch.nn.Module
        The trained network.
    threshold_ : float
        Map value above which a pixel is a defect: `threshold`, or the learnt value.
    threshold_basis_ : str
        What `threshold_` rests on, in words: which share of good images exceeds it, and from how
        many images that was learnt.
    p_values_basis_ : str
        What :meth:`p_values` rest on, in words: ranks among good images, or an extrapolation.
    offset_ : float
        ``-threshold_``; scores below it belong to defective images.
    smoothing_ : float
        σ of the map in pixels: `smoothing`, or what was chosen.
    place_profile_ : (ndarray of shape (w,) or None, ndarray of shape (h,) or None)
        What maps are relative to by column and by row, at the network's scale: the 95 % quantile of
        good images' smoothed residual there, over its median. None of an axis where left-out
        images are not better for it, of fewer than five images and of images of several sizes.
    border_profile_ : ndarray of shape (patch_size // 2 + 1,)
        What maps are relative to after that: the same quantile at pixels that 0, 1, … others
        separate from the border; the last holds farther in.
    material_ : str
        What the material looks like, in words: the period of its pattern or the size of its grain
        in pixels at the network's scale, how much of its local contrast is redrawn, and whether
        half the `scale` may do better.
    map_choice_ : list of dict
        What the choice of the map rests on: the average precision of each kind of drawn defect
        with each setting, their "mean", and the share of defects "found". Empty if nothing could
        be drawn: images smaller than 16 pixels.
    n_iter_ : int
        Epochs trained.
    loss_curve_ : list of float
        Mean loss of each epoch.
    trained_on_ : dict
        The good images that the last fit used: their number ``"n_images"``; how many of them,
        or of their strips, were kept from training, ``"n_kept"``; ``"first_shape"`` (h, w, c).
    lessons_ : list of dict
        A dict for each call of :meth:`learn_good` since the fit: ``"time"`` (UTC), ``"n_images"``,
        ``"n_alarms"`` of them, ``"n_regions"`` in these, and ``"n_alike"``: alarms that would be
        gone if they had not been taught themselves.
    data_range_ : (float, float)
        Values that are mapped to 0 and 1.
    region_ : bool ndarray of shape (h, w) or None
        The parameter `region`, read in fit.
    image_shape_ : tuple of int or None
        Shape of the images; None after a fit on a sequence, whose images may differ.
    n_features_in_ : int
        Values in an image; not set by a fit on a sequence."""


def published(cls: Class) -> Class:
    """A public class: its module is the package, the placeholders of its docstring are filled.

    Stored files then hold no name of a private module, which may move.
    """
    cls.__module__ = "sklearn_ssimae"
    if cls.__doc__ is not None:  # python -OO
        cls.__doc__ = cls.__doc__.replace("    {common_parameters}", COMMON_PARAMETERS).replace(
            "    {common_attributes}", COMMON_ATTRIBUTES
        )
    return cls
