"""Layers: what runs have changed, kept beside the real tree until it is committed to it or dropped.

                    create, open_layer, branch, drop
    store.py      ──▶ Layer ─▶ Tree (target, lowers, directory)
    adopt.py          a tree that another program has made, put into our form
    overlay.py        the trees of a layer seen as one: the kernel overlayfs' format, read
    changes.py        Tree ─▶ Comparison ─▶ [Change]         (vuctl diff)

    commit.py         Layer ─▶ Outlook ─▶ the real tree            (vuctl commit)
        select.py     which changes; origins.py the book of what was below; conflicts.py against it
        permitted.py  what may be done; plan.py, steps.py in which order; journal.py written down before
        homes.py      in which real tree, where there are several
        stage.py      make ready, or undo; copying.py, attributes.py
        apply.py      change the names of the real tree
        clear.py      take out of the layer what has been committed

    archive.py        as an OCI layer                              (vuctl export)
    patch.py          as a patch; lines.py two files line by line  (vuctl diff --patch, --stat)

    errors.py         LayerError: one sentence for a person
    record.py         layer.json
    listing.py        which layers there are
    lock.py           who works on a layer
    places.py         where layers are, and what their file system must give
    beneath.py        reach what lies below a directory, never through a link
    remove.py         remove a tree of our own
    reserve.py        directories that will be trees
    compare.py        whether two objects are the same
    quoting.py        paths as text
    kernel.py         system calls that Python does not have
    size.py           the room that a layer takes

Nouns: a *layer* is a directory with one or several *trees*; of each it holds the *upper* (what was changed,
in the format of the kernel's overlayfs) and the *origins* (what was below). The *lowers* of a tree are what
it stands upon: the uppers of the layers that it is a branch of, and at the end the host's tree. A *change* is
a path that the tree shows otherwise than its lowers do. Plain synchronous code: no trio.
"""

from vuosd.layers.errors import LayerError
from vuosd.layers.store import Layer, Tree, branch, create, drop, open_layer

__all__ = ["Layer", "LayerError", "Tree", "branch", "create", "drop", "open_layer"]
