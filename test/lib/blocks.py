"""The files of a store as bytes, read by what storage/FORMAT.md says and nothing else."""
import ctypes
import glob
import os
import struct

BLOCK_HALF, FIELDS, SEGMENT_BEGIN, BATCH_HEADER = 2048, 2040, 4096, 128
BATCH_MAGIC = b"GDWTBAT1"


def checksum(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


def make_version(path, version):
    """The block at the head of a file as that format version would write it; what was there."""
    with open(path, "r+b") as file:
        kept = file.read(2 * BLOCK_HALF)
        half = bytearray(kept[:BLOCK_HALF])
        struct.pack_into("<I", half, 8, version)
        struct.pack_into("<Q", half, FIELDS, checksum(bytes(half[:FIELDS])))
        file.seek(0)
        file.write(half + half)
    return kept


def put_back(path, kept):
    with open(path, "r+b") as file:
        file.write(kept)


def segments(folder):
    return sorted(glob.glob(os.path.join(folder, "log", "*.seg")))


def find_body(folder, body):
    """(path, offset) of the first place where these bytes stand in the log."""
    for path in segments(folder):
        with open(path, "rb") as file:
            at = file.read().find(body)
        if at >= 0:
            return path, at
    raise AssertionError(f"{body!r} is not in the log")


def batches(path):
    """Offsets of the batches, one behind the other."""
    with open(path, "rb") as file:
        whole = file.read()
    at = SEGMENT_BEGIN
    while whole[at:at + 8] == BATCH_MAGIC:
        yield at
        at += struct.unpack_from("<I", whole, at + 52)[0]


def batch_before(path, body):
    """The offset of the batch that holds these bytes."""
    with open(path, "rb") as file:
        place = file.read().find(body)
    return max(at for at in batches(path) if at < place)


def last_batch(path):
    return max(batches(path))
