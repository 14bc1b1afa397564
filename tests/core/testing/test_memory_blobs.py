from ordersync_core.testing.blob_contract import BlobsContract
from ordersync_core.testing.memory_blobs import MemoryBlobs


class TestMemoryBlobs(BlobsContract):
    def make_blobs(self) -> MemoryBlobs:
        return MemoryBlobs()
