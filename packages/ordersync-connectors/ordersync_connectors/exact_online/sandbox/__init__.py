"""A local server that behaves as Exact Online's API does, as far as reading items needs it.

Where it deviates on purpose:
- the consent page consents at once, and http redirect addresses are taken on loopback hosts (`oauth`);
- one app, one user, tokens of a run end with it: after a restart a connection needs consent (`oauth`);
- no item has a picture (`shapes`); an item with stock stands for one in use (`writing`).

Where Exact's habit is not known and one was chosen:
- after a new consent the access tokens of the earlier chain are dead too; the 201st token call of a day gets 429;
- a call to a blocked endpoint gets 429 without limit headers, and each block is twice as long as the one before;
- a read is broad when it has no filter and asks for more than a page; a count with a JSON Accept header gets 406;
- `$top` above the page size counts over all pages; a page behind a skip token is never a bare array;
- the sync resources have Timestamp as their key, are ordered by it only, and take filters on any property;
- texts compare exactly; filters on computed and description properties are refused by a list of our own (`fields`);
- read-only properties in a body are ignored, over-long texts are refused with 500, a body above 10 MB with 413;
- the type names of sync rows and deleted rows.
"""

from .faults import FaultError
from .item_file import ItemFileError, ItemRow, ItemRows, read_item_file
from .server import SandboxServer, run_sandbox
from .settings import SandboxSettings

__all__ = [
    "FaultError",
    "ItemFileError",
    "ItemRow",
    "ItemRows",
    "SandboxServer",
    "SandboxSettings",
    "read_item_file",
    "run_sandbox",
]
