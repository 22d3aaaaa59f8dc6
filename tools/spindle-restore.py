#!/usr/bin/env python3
"""Restore a disk from a Spindle image. Needs Python 3.8 or newer and nothing else.

  spindle-restore.py info    IMAGE               what the image is
  spindle-restore.py verify  IMAGE               prove every byte, or list what is lost
  spindle-restore.py restore IMAGE OUTPUT        the disk as it was, into a sparse file or a device
  spindle-restore.py restore IMAGE... OUTPUT  from a full image and incremental ones, in any order
  spindle-restore.py restore --compact IMAGE OUTPUT      only the used blocks, head to end
  spindle-restore.py restore --salvage PART... OUTPUT    from pieces, in any order

An incremental image holds what differs from its base. To restore it, give it with the image of its
base, and so on down to a full image; info tells the base. If one is missing, the program says
which. All of them are read and checked whole. (With --salvage give the bases whole, by --base.)

IMAGE may be - for standard input. With --salvage each PART is a piece of one image, cut anywhere,
with or without its head; a piece that holds no segment's start can be placed by hand as
PART@OFFSET (its offset in the image in bytes). If it is not certain which image the pieces are of
(the disk may hold images too), the program says what it found; then choose by --image-id.

Damage stops a restore, unless --skip-damage (implied by --salvage) is given: then all that can be
proven is restored, and each lost range of the disk is printed as
  lost: offset OFFSET, LENGTH bytes (exact)     these bytes are lost; zeros in OUTPUT
  lost: offset OFFSET, LENGTH bytes (within)    the lost blocks lay somewhere in this range
What a newer image has lost is zeros, never what an older one had there.

Exit status: 0 all restored or proven; 1 the system failed (reading, writing, no room);
2 wrong usage; 3 no image, a newer format, one that contradicts itself, or which one is not certain,
or an image of a base is missing;
4 the image is damaged or incomplete, and was not restored; 5 restored, but with problems.

The format is described in docs/format/image.md of Spindle's source.
"""

import argparse
import array
import bisect
import datetime
import errno
import hashlib
import heapq
import itertools
import os
import re
import stat
import struct
import sys
import tempfile
import unicodedata
import uuid
import zlib

try:
    import fcntl
except ImportError:  # not a Unix system: no block devices there
    fcntl = None

VERSION = 1
UNIT = 4096
SEGMENT_DATA = 8 << 20
SEGMENT_HEADER = 256
ENTRY = struct.Struct('<QI')
PAGE_ENTRIES = 510
ZERO_PAGE_RANGES = 255
INCREMENTAL = 1  # incompatible feature bit 0
MAX_BLOCKS = 2**32 - 2
MAX_CAPACITY = 2**53 - 512
MAX_TIME_MS = 8_640_000_000_000_000
MAX_RANGES = 65536  # lost ranges kept; what follows widens the last one
MAX_MESSAGES = 1000
KEPT_PAGES = 16384  # of the table, to know where lost blocks belonged: 64 MiB
MAX_CANDIDATES = 16  # versions of one segment looked at where pieces overlap
MAX_PIECES = 4096  # that one segment may be put together from
MAX_STRAYS = 1000  # magics without a structure that are remembered of a piece
MAX_TAGS = 1024  # pages of a table that are looked at to see whose it is
SCAN_CHUNK = 4 << 20
BLKZEROOUT = 0x127F  # linux/fs.h

FAILED, USAGE, INVALID, DAMAGED, LOSSES = 1, 2, 3, 4, 5

HEADER_MAGIC, HEADER_SALT = b'SPDLHEAD', b'spindle image header'
SEGMENT_MAGIC, SEGMENT_SALT = b'SPDLSEGM', b'spindle image segment'
TRAILER_MAGIC, TRAILER_SALT = b'SPDLTAIL', b'spindle image trailer'
TABLE_SALT = b'spindle image table'
ZEROS_SALT = b'spindle image zeros'
# magic, version, block size, incompatible features, read-only-compatible features, image, copy,
# disk, capacity, used blocks, generation, frozen at, image bytes, zero ranges, options, name
HEADER = struct.Struct('<8sIIQQ16s16s16sQQQQQQ64sB254s')
# flags, base copy, base generation, reserved
OPTIONS = struct.Struct('<Q16sQ32s')
# behind the header of an incremental: reserved, blocks of the copy
COPY_BLOCKS = struct.Struct('<BQ')
# magic, version, block size, incompatible features, image, copy, disk, capacity, used blocks,
# first block, sequence, count; of an incremental also: zero ranges, base copy, base generation,
# blocks of the copy
SEGMENT = struct.Struct('<8sIIQ16s16s16sQQQIIQ16sQQ')
# magic, version, block size, incompatible features, image, used blocks, segments, table pages,
# zero ranges, image bytes, digest
TRAILER = struct.Struct('<8sIIQ16sQQQQQ32s')
TRAILER_END = b'END OF IMAGE'


class Stop(Exception):
    """Ends the program with a sentence and an exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


# The errors of the format page, and what the program ends with.
STATUS = {
    'IMAGE_TRUNCATED': DAMAGED,
    'IMAGE_DAMAGED': DAMAGED,
    'IMAGE_INVALID': INVALID,
    'IMAGE_UNSUPPORTED': INVALID,
}


class Fault(Stop):
    """Something is wrong with an image. Decoders of parts that may be skipped return it."""

    def __init__(self, code, message):
        super().__init__(STATUS[code], f'{code}: {message}')
        self.code, self.problem = code, message


def base_missing(frame):
    base_id, generation = frame.base
    base = f'copy {uuid.UUID(bytes=base_id)}, generation {generation}'
    copy = uuid.UUID(bytes=frame.copy_id)
    return Stop(INVALID, f'BASE_MISSING: the image of copy {copy} needs that of its base, {base}')


def senseless(what):
    return Fault('IMAGE_INVALID', f'the header makes no sense: {what}')


def salted_crc(salt, data):
    return zlib.crc32(data, zlib.crc32(salt))


def counted(number, noun):
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def are(number):
    return 'is' if number == 1 else 'are'


def is_zero(data):
    return data.count(0) == len(data)


# --- What an image is and where its parts lie -----------------------------------------------------


FULL = bytes(16), 0, 0  # base copy, base generation and zero ranges of a full image


class Frame:
    """An image's facts, from its header or from any of its segments, and all offsets."""

    def __init__(
        self, image_id, copy_id, disk_id, capacity, block_size, used_blocks, increment=None
    ):
        """increment: None for a full image, else (base copy, base generation, zero ranges, blocks
        of the copy)."""
        if block_size not in [1 << power for power in range(14, 21)]:
            raise senseless(f'block size {block_size}')
        if not 512 <= capacity <= MAX_CAPACITY or capacity % 512:
            raise senseless(f'capacity {capacity}')
        self.disk_blocks = -(-capacity // block_size)
        if used_blocks > min(MAX_BLOCKS, self.disk_blocks):
            raise senseless(f'{used_blocks} used blocks')
        base_id, base_generation, zero_ranges, copy_blocks = increment or FULL + (used_blocks,)
        free = self.disk_blocks - used_blocks
        if zero_ranges > (0 if increment is None else min(MAX_BLOCKS, free)):
            raise senseless(f'{zero_ranges} zero ranges')
        if not used_blocks <= copy_blocks <= min(MAX_BLOCKS, self.disk_blocks - zero_ranges):
            raise senseless(f'{copy_blocks} blocks of the copy')
        if increment and (base_id == copy_id or not 1 <= base_generation < 2**53):
            raise senseless('base')
        self.options = OPTIONS.pack(0, base_id, base_generation, bytes(32))
        options = struct.pack('<I', VERSION) + self.options
        digest = bytearray(hashlib.sha256(copy_id + options).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        if bytes(digest) != image_id:
            raise senseless('image UUID')
        self.image_id, self.copy_id, self.disk_id = image_id, copy_id, disk_id
        self.capacity, self.block_size, self.used_blocks = capacity, block_size, used_blocks
        self.base = increment and (base_id, base_generation)
        self.features = INCREMENTAL if increment else 0
        self.increment, self.zero_ranges, self.copy_blocks = increment, zero_ranges, copy_blocks
        self.generation = None  # only a header tells it
        self.per_segment = SEGMENT_DATA // block_size
        self.pages = -(-used_blocks // PAGE_ENTRIES)
        self.segments = -(-used_blocks // self.per_segment)
        self.zeros_offset = UNIT + self.pages * UNIT
        self.zero_pages = -(-zero_ranges // ZERO_PAGE_RANGES)
        self.segments_offset = self.zeros_offset + self.zero_pages * UNIT
        self.full_segment = self.head_bytes_for(self.per_segment) + SEGMENT_DATA
        self.trailer_offset = self.segments_offset
        if self.segments:
            last = self.segments - 1
            self.trailer_offset = self.segment_offset(last) + self.segment_bytes(last)
        self.image_bytes = self.trailer_offset + UNIT

    @staticmethod
    def head_bytes_for(count):
        return -(-(SEGMENT_HEADER + count * ENTRY.size) // UNIT) * UNIT

    def count(self, segment):
        return min(self.per_segment, self.used_blocks - segment * self.per_segment)

    def segment_offset(self, segment):
        return self.segments_offset + segment * self.full_segment

    def segment_bytes(self, segment):
        count = self.count(segment)
        return self.head_bytes_for(count) + count * self.block_size

    def key(self):
        """What all parts of an image have in common."""
        size = self.capacity, self.block_size, self.used_blocks
        return self.image_id, self.disk_id, size, self.increment

    def page_entries(self, page):
        return min(PAGE_ENTRIES, self.used_blocks - page * PAGE_ENTRIES)

    def page_ranges(self, page):
        return min(ZERO_PAGE_RANGES, self.zero_ranges - page * ZERO_PAGE_RANGES)


def check_version(version, features):
    if version > VERSION:
        message = f'the image has format version {version}; this program reads {VERSION}'
        raise Fault('IMAGE_UNSUPPORTED', message)
    if features & ~INCREMENTAL:
        message = f'the image uses features unknown to this program ({features & ~INCREMENTAL:#x})'
        raise Fault('IMAGE_UNSUPPORTED', message)
    if version != VERSION:
        raise senseless(f'version {version}')


def decode_header(data):
    """The Frame, name, generation and time in a header. Stops if it is not valid."""
    if len(data) < UNIT:
        raise Fault('IMAGE_TRUNCATED', 'shorter than the header of an image')
    fields = HEADER.unpack_from(data, 2048)
    if fields[0] != HEADER_MAGIC:
        raise Fault('IMAGE_INVALID', 'this is no Spindle image (with a damaged head try --salvage)')
    (crc,) = struct.unpack_from('<I', data, UNIT - 4)
    if crc != salted_crc(HEADER_SALT, data[: UNIT - 4]):
        raise Fault('IMAGE_INVALID', 'the header of the image is damaged (try --salvage)')
    _, version, block_size, features, read_only = fields[:5]
    image_id, copy_id, disk_id, capacity, used = fields[5:10]
    generation, frozen_at, image_bytes, zero_ranges, options, name_length, name = fields[10:]
    check_version(version, features)
    increment, reserved = None, 2048 + HEADER.size
    if features & INCREMENTAL:
        _, base_id, base_generation, _ = OPTIONS.unpack(options)
        _, copy_blocks = COPY_BLOCKS.unpack_from(data, reserved)
        increment = base_id, base_generation, zero_ranges, copy_blocks
        if base_generation >= generation:
            raise senseless('generation of the base')
    elif zero_ranges:
        raise senseless(f'{zero_ranges} zero ranges')
    frame = Frame(image_id, copy_id, disk_id, capacity, block_size, used, increment)
    if image_bytes != frame.image_bytes or options != frame.options:
        raise senseless('image length or options')
    if not 1 <= name_length <= 254 or not is_zero(name[name_length:]):
        raise senseless('length of the disk name')
    in_use = COPY_BLOCKS.pack(0, frame.copy_blocks) if increment else b''
    if not read_only and data[reserved : UNIT - 4] != in_use.ljust(UNIT - 4 - reserved, b'\0'):
        raise senseless('reserved bytes')
    try:
        frame.name = name[:name_length].decode('utf-8')
    except UnicodeDecodeError:
        raise senseless('disk name') from None
    if any(unicodedata.category(letter) == 'Cc' for letter in frame.name):
        raise senseless('disk name')
    if not 1 <= generation < 2**53 or frozen_at > MAX_TIME_MS:
        raise senseless('generation or time')
    frame.generation, frame.frozen_at = generation, frozen_at
    return frame


def decode_page(frame, page, data, before):
    """The places on a table page, or a Fault. `before`: highest place on the good pages so far."""
    tag, number, crc = struct.unpack_from('<8sII', data, PAGE_ENTRIES * 8)
    if crc != salted_crc(TABLE_SALT, data[: UNIT - 4]):
        return Fault('IMAGE_DAMAGED', f'page {page} of the correspondence table is damaged')
    if number != page or tag != frame.image_id[:8]:
        return Fault('IMAGE_INVALID', f'page {page} of the correspondence table is another one')
    count = frame.page_entries(page)
    if not is_zero(data[count * 8 : PAGE_ENTRIES * 8]):
        return Fault('IMAGE_INVALID', f'page {page} of the correspondence table goes on too far')
    places = array.array('Q', struct.unpack_from(f'<{count}Q', data))
    if not are_places(frame, page * PAGE_ENTRIES, places, before):
        return Fault('IMAGE_INVALID', f'page {page} of the correspondence table makes no sense')
    return places


def decode_zero_page(frame, page, data, before):
    """[(first, end)] of the zero ranges on a page, or a Fault. `before`: end of the last one."""
    tag, number, crc = struct.unpack_from('<8sII', data, ZERO_PAGE_RANGES * 16)
    if crc != salted_crc(ZEROS_SALT, data[: UNIT - 4]):
        return Fault('IMAGE_DAMAGED', f'page {page} of the zero ranges is damaged')
    if number != page or tag != frame.image_id[:8]:
        return Fault('IMAGE_INVALID', f'page {page} of the zero ranges is another one')
    count = frame.page_ranges(page)
    if not is_zero(data[count * 16 : ZERO_PAGE_RANGES * 16]):
        return Fault('IMAGE_INVALID', f'page {page} of the zero ranges goes on too far')
    ranges = []
    for first, length in struct.iter_unpack('<QQ', data[: count * 16]):
        if first <= before or not 0 < length <= frame.disk_blocks - first:
            return Fault('IMAGE_INVALID', f'page {page} of the zero ranges makes no sense')
        before = first + length
        ranges.append((first, before))
    return ranges


def are_places(frame, first, places, before):
    """True if these can be the places of X = `first` … with an earlier block at `before`."""
    last, room = max(before, first - 1), frame.disk_blocks - frame.used_blocks
    for block, place in enumerate(places, first):
        if not last < place <= room + block:
            return False
        last = place
    return True


def segment_frame(data):
    """Frame and number of the segment that `data` begins with if its head is right, or None."""
    if not is_head(data):
        return None
    fields = SEGMENT.unpack_from(data)
    _, version, block_size, features, image_id, copy_id, disk_id, capacity, used = fields[:9]
    sequence, (zero_ranges, base_id, base_generation, copy_blocks) = fields[10], fields[12:]
    increment = (base_id, base_generation, zero_ranges, copy_blocks) if features else None
    try:
        check_version(version, features)
        frame = Frame(image_id, copy_id, disk_id, capacity, block_size, used, increment)
    except Fault:
        return None
    if sequence >= frame.segments or data[:252] != segment_fields(frame, sequence):
        return None
    places = [place for place, _ in decode_segment_head(frame, sequence, data)]
    if not are_places(frame, sequence * frame.per_segment, places, -1):
        return None
    return frame, sequence


def is_head(data):
    """True if `data` begins with an undamaged head, whatever it says."""
    if len(data) < SEGMENT_HEADER or not data.startswith(SEGMENT_MAGIC):
        return False
    count = SEGMENT.unpack_from(data)[11]
    bare = SEGMENT_HEADER + count * ENTRY.size
    if count > SEGMENT_DATA >> 14 or len(data) < bare:
        return False
    return struct.unpack_from('<I', data, 252)[0] == head_crc(data[:bare])


def segment_fields(frame, segment):
    """What the first 252 bytes of this segment must be."""
    base_id, base_generation, zero_ranges, copy_blocks = frame.increment or FULL + (0,)
    fields = SEGMENT.pack(
        SEGMENT_MAGIC, VERSION, frame.block_size, frame.features, frame.image_id, frame.copy_id,
        frame.disk_id, frame.capacity, frame.used_blocks, segment * frame.per_segment, segment,
        frame.count(segment), zero_ranges, base_id, base_generation, copy_blocks,
    )  # fmt: skip
    return fields.ljust(252, b'\0')


def head_crc(bare_head):
    return zlib.crc32(bare_head[SEGMENT_HEADER:], salted_crc(SEGMENT_SALT, bare_head[:252]))


def bare_bytes(frame, segment):
    return SEGMENT_HEADER + frame.count(segment) * ENTRY.size


def decode_segment_head(frame, segment, data):
    """[(place, checksum)] of a segment, or a Fault."""
    bare = data[: bare_bytes(frame, segment)]
    is_this = bare[:252] == segment_fields(frame, segment)
    if is_this and struct.unpack_from('<I', bare, 252)[0] == head_crc(bare):
        return list(ENTRY.iter_unpack(bare[SEGMENT_HEADER:]))
    if not is_this and is_head(data):
        return Fault('IMAGE_INVALID', f'segment {segment} has the head of another segment')
    return Fault('IMAGE_DAMAGED', f'the head of segment {segment} is damaged')


def repaired_head(frame, segment, data, places):
    """Header and entries of a damaged head if they follow from the rest of the image, or None.

    `data`: the whole segment; `places`: those of its blocks by the table, None if unknown.
    """
    crc = data[252:SEGMENT_HEADER]
    entries = list(ENTRY.iter_unpack(data[SEGMENT_HEADER : bare_bytes(frame, segment)]))
    candidates = [lambda: entries]
    if None not in places:
        start, size = frame.head_bytes_for(len(places)), frame.block_size
        blocks = memoryview(data)[start:]
        candidates += [
            lambda: [(place, old) for place, (_, old) in zip(places, entries)],
            lambda: [
                (place, zlib.crc32(blocks[index * size : (index + 1) * size]))
                for index, place in enumerate(places)
            ],
        ]
    for candidate in candidates:
        head = segment_fields(frame, segment) + crc
        head += b''.join(ENTRY.pack(*entry) for entry in candidate())
        if crc == struct.pack('<I', head_crc(head)):
            return head
    return None


def is_trailer(data):
    """True for an undamaged trailer of any image."""
    if len(data) < UNIT or not data.startswith(TRAILER_MAGIC):
        return False
    return struct.unpack_from('<I', data, UNIT - 4)[0] == salted_crc(TRAILER_SALT, data[: UNIT - 4])


def decode_trailer(frame, data):
    """The digest in the trailer, or a Fault."""
    if not is_trailer(data):
        return Fault('IMAGE_TRUNCATED', 'the image has no valid trailer: it is not complete')
    digest = data[80:112]
    fields = TRAILER.pack(
        TRAILER_MAGIC, VERSION, frame.block_size, frame.features, frame.image_id,
        frame.used_blocks, frame.segments, frame.pages, frame.zero_ranges, frame.image_bytes,
        digest,
    )  # fmt: skip
    if data[: UNIT - 4] == fields.ljust(UNIT - 4 - len(TRAILER_END), b'\0') + TRAILER_END:
        return digest
    return Fault('IMAGE_INVALID', 'the trailer contradicts the rest of the image')


def first_good(candidates, decode):
    """What the first good candidate decodes to, else the Fault that tells most."""
    fault = None
    for data in candidates:
        found = decode(data)
        if not isinstance(found, Fault):
            return found
        if fault is None or found.code == 'IMAGE_INVALID':
            fault = found
    return fault


# --- Where the bytes of an image come from --------------------------------------------------------


class Stream:
    """An image that can only be read from head to end; the last bytes read can be read again."""

    excess = 0

    def __init__(self, file):
        self.file, self.position, self.ended, self.last = file, 0, False, (0, b'')

    def indexes(self, first_offset, stride, count):
        """Numbers of the structures of `stride` bytes that may be there, as far as they go."""
        for index in range(count):
            if self.ended:
                return
            yield index

    def read(self, offset, length):
        """The bytes from here on; missing ones are zeros."""
        if offset == self.last[0] and length <= len(self.last[1]):
            return iter([self.last[1][:length]])
        assert offset == self.position or self.ended
        parts, left = [], length
        while left and not self.ended:
            part = self.file.read(left)
            self.ended = not part
            parts.append(part)
            left -= len(part)
        self.position += length - left
        self.last = (offset, b''.join(parts).ljust(length, b'\0'))
        return iter([self.last[1]])


class Extents:
    """Pieces of an image in files. An extent is (image offset, end, file, file offset)."""

    def __init__(self, extents, excess=0):
        self.excess = excess  # bytes behind the end of the image
        self.list = sorted(extents)
        self.starts = [extent[0] for extent in self.list]
        self.furthest = list(itertools.accumulate((extent[1] for extent in self.list), max))

    def near(self, offset, end):
        """The extents that hold any of these bytes."""
        index = bisect.bisect_left(self.starts, end) - 1
        found = []
        while index >= 0 and self.furthest[index] > offset and len(found) < MAX_PIECES:
            if self.list[index][1] > offset:
                found.append(self.list[index])
            index -= 1
        return found

    def indexes(self, first_offset, stride, count):
        """Numbers of the structures of `stride` bytes of which anything is there."""
        next_index = 0
        for start, end, _, _ in self.list:
            from_index = max(next_index, (start - first_offset) // stride)
            next_index = max(next_index, min(count, -(-(end - first_offset) // stride)))
            yield from range(from_index, next_index)

    def read(self, offset, length):
        """All candidates for these bytes; missing ones are zeros."""
        end = offset + length
        near = self.near(offset, end)
        if len(near) != 1:
            mixed = bytearray(length)
            for extent in near:
                start, stop = max(offset, extent[0]), min(end, extent[1])
                mixed[start - offset : stop - offset] = piece(extent, start, stop)
            yield bytes(mixed)
        for extent in near[:MAX_CANDIDATES]:
            start, stop = max(offset, extent[0]), min(end, extent[1])
            yield (bytes(start - offset) + piece(extent, start, stop)).ljust(length, b'\0')


def piece(extent, start, end):
    """Image bytes start … end - 1 out of an extent; zeros where the medium fails."""
    at = extent[3] + start - extent[0]
    try:
        data = os.pread(extent[2], end - start, at)
        return data.ljust(end - start, b'\0')
    except OSError as error:
        note(f'reading at {at} failed ({error.strerror}); going on in small steps')
    parts = []
    for offset in range(at, at + end - start, UNIT):
        length = min(UNIT, at + end - start - offset)
        try:
            part = os.pread(extent[2], length, offset)
        except OSError:
            part = b''
        parts.append(part.ljust(length, b'\0'))
    return b''.join(parts)


def note(message):
    print(f'spindle-restore: {message}', file=sys.stderr)


# --- Pieces of an image: which image, and where in it ---------------------------------------------


class Anchor:
    """A proven structure in a file: it tells where in which image the bytes around it belong."""

    def __init__(self, at, image_id, frame, image_offset, proven):
        self.at, self.image_id, self.frame, self.image_offset = at, image_id, frame, image_offset
        self.proven = proven  # ascending (start, end) in the file

    @property
    def delta(self):
        """What leads from an offset in the file to one in the image."""
        return self.image_offset - self.at


MAGICS = re.compile(b'SPDL(?:HEAD|SEGM|TAIL)')


def scan(file, size):
    """Anchors of a file, and strays: magics with no right structure, as (offset, magic).

    What lies in proven bytes is neither: an image in there belongs to the disk.
    """
    found, strays, proven = [], [], []  # proven: a heap of what lies ahead
    at, base, data = 0, 0, b''
    while at < size:
        while proven and proven[0][0] <= at:
            at = max(at, heapq.heappop(proven)[1])
        if not base <= at < base + len(data) - len(HEADER_MAGIC):
            base, data = at, os.pread(file, SCAN_CHUNK, at)
        hit = MAGICS.search(data, at - base)
        position = base + hit.start() if hit else base + max(1, len(data) - len(HEADER_MAGIC) + 1)
        if proven and proven[0][0] <= position:
            at = proven[0][0]
            continue
        if hit is None and (base + len(data) >= size or not data):
            break
        at = position + (hit is not None)
        anchor = anchor_at(file, position) if hit else None
        if anchor is not None:
            found.append(anchor)
            for piece_of in anchor.proven:
                heapq.heappush(proven, piece_of)
        elif hit and len(strays) < MAX_STRAYS:
            strays.append((position, hit.group()))
    return found, strays


def anchor_at(file, at):
    """The anchor whose magic stands at `at`, or None."""
    data = os.pread(file, 2 * UNIT, at)
    if data.startswith(HEADER_MAGIC):
        start = at - 2048
        try:
            frame = decode_header(os.pread(file, UNIT, start)) if start >= 0 else None
        except Fault:
            return None
        return frame and Anchor(start, frame.image_id, frame, 0, [(start, start + UNIT)])
    if data.startswith(TRAILER_MAGIC):
        if not is_trailer(data[:UNIT]):
            return None
        fields = TRAILER.unpack_from(data)
        return Anchor(at, fields[4], None, fields[9] - UNIT, [(at, at + UNIT)])
    found = segment_frame(data)
    if found is None:
        return None
    frame, segment = found
    block_at = at + frame.head_bytes_for(frame.count(segment))
    proven = [(at, block_at)]
    for _, checksum in decode_segment_head(frame, segment, data):
        if zlib.crc32(os.pread(file, frame.block_size, block_at)) == checksum:
            proven.append((block_at, block_at + frame.block_size))
        block_at += frame.block_size
    return Anchor(at, frame.image_id, frame, frame.segment_offset(segment), proven)


class Part:
    """One file of a salvage: what was recognised in it, and of which image it may be."""

    def __init__(self, name):
        path, _, offset = name.rpartition('@')
        self.by_hand = bool(path) and offset.isdigit() and not os.path.exists(name)
        self.name, self.base = name, int(offset) if self.by_hand else 0
        self.file, self.size = open_seekable(path if self.by_hand else name)
        self.anchors, self.strays = scan(self.file, self.size)
        self.tags = self.in_place()

    def in_place(self):
        """Tags of the images that have a structure where it lies if the part lies at `base`."""
        mine = [anchor for anchor in self.anchors if anchor.delta == self.base]
        if any(anchor.image_offset == 0 for anchor in mine):
            mine = [anchor for anchor in mine if anchor.image_offset == 0]  # the header decides
            return {anchor.image_id[:8] for anchor in mine}
        tags = {anchor.image_id[:8] for anchor in mine}
        first = max(0, self.base // UNIT - 1)
        for page in range(first, first + MAX_TAGS):
            at = UNIT + page * UNIT - self.base
            if at + UNIT > self.size:
                break
            data = os.pread(self.file, UNIT, at) if at >= 0 else bytes(UNIT)
            tag, number, crc = struct.unpack_from('<8sII', data, PAGE_ENTRIES * 8)
            if number == page and crc == salted_crc(TABLE_SALT, data[: UNIT - 4]):
                tags.add(tag)
        return tags

    def images(self, frames):
        """The ids of the images that this may be a part of, and doubts whether it is."""
        found = {anchor.image_id for anchor in self.anchors}
        if not self.tags:
            if self.by_hand:
                return set(), []
            return found, self.doubts(frames.get(min(found))) if len(found) == 1 else []
        own = {key for key in frames if key[:8] in self.tags}
        if len(self.tags) > 1 or len(own) > 1:
            return own | found, ['structures of several images lie in their places']
        if not own:
            return found, ['table or trailer are of an image of which nothing else was found']
        (key,) = own
        if self.base + self.size > frames[key].image_bytes:
            return own | found, ['bytes follow the end of the image']
        return own, []

    def doubts(self, frame):
        """Why a loose piece with structures of this image alone may be of another one."""
        if frame is None:
            return []
        deltas = {anchor.delta for anchor in self.anchors}
        if len(deltas) > 1:
            return ['bytes were lost or put in between structures']
        (delta,) = deltas
        if delta < 0 or delta + self.size > frame.image_bytes:
            return ['there are bytes before or behind the image']
        own = {HEADER_MAGIC: 2048, TRAILER_MAGIC: frame.trailer_offset}
        for at, magic in self.strays:
            if magic == SEGMENT_MAGIC:
                from_start = at + delta - frame.segments_offset
                is_own = from_start >= 0 and from_start % frame.full_segment == 0
            else:
                is_own = at + delta == own[magic]
            if not is_own:
                return [f'at {at} there is what may be left of another image']
        return []


def extents_of(part, key, frame):
    """Extents of a part from its anchors: each holds for what surrounds it."""
    found = [anchor for anchor in part.anchors if anchor.image_id == key]
    if not found and part.tags == {key[:8]}:
        return [(part.base, part.base + part.size, part.file, 0)]
    extents, start = [], 0
    for index, anchor in enumerate(found):
        end = part.size if index == len(found) - 1 else max(found[index + 1].at, start)
        delta = anchor.delta
        low, high = max(start + delta, 0), min(end + delta, frame.image_bytes)
        if low < high:
            if extents and extents[-1][3] - extents[-1][0] == -delta:
                low = extents.pop()[0]
            extents.append((low, high, part.file, low - delta))
        start = min(contiguous_end(anchor.proven), part.size)
    return extents


def contiguous_end(ranges):
    end = ranges[0][0]
    for start, stop in ranges:
        if start != end:
            break
        end = stop
    return end


def known_frames(parts):
    """{image id: Frame} of all images of which a header or a head was found."""
    frames = {}
    for part in parts:
        for anchor in part.anchors:
            frame = anchor.frame
            if frame is None:
                continue
            if frames.setdefault(frame.image_id, frame).key() != frame.key():
                name = uuid.UUID(bytes=frame.image_id)
                raise Fault('IMAGE_INVALID', f'heads of the image {name} contradict each other')
    return frames


def choose(parts, frames, image_id):
    """The id of the image that all parts are of. Stops if that is not certain."""
    if image_id is not None:
        if image_id not in frames:
            raise Fault('IMAGE_INVALID', 'no header and no segment of that image was found')
        return image_id
    candidates, doubts = set(), []
    for part in parts:
        found, why = part.images(frames)
        candidates |= found
        doubts += [f'{part.name}: {doubt}' for doubt in why]
    if not frames:
        raise Fault('IMAGE_INVALID', 'no header and no segment of the image was found')
    if len(candidates) == 1 and not doubts:
        (key,) = candidates
        if key in frames:
            return key
    reasons = '; '.join(doubts) or 'there are parts of several images'
    lines = [
        f'  {uuid.UUID(bytes=key)}: copy {uuid.UUID(bytes=frame.copy_id)} of a disk of '
        f'{frame.capacity} bytes, {frame.used_blocks} blocks used'
        for key, frame in frames.items()
    ]
    message = f'it is not certain which image this is ({reasons}); choose one by --image-id:\n'
    raise Fault('IMAGE_INVALID', message + '\n'.join(lines))


def assemble(names, image_id):
    """The Frame and the Extents of the image that the parts belong to."""
    parts = [Part(name) for name in names]
    frames = known_frames(parts)
    key = choose(parts, frames, image_id)
    frame, placed = frames[key], []
    for part in parts:
        if part.by_hand:
            placed.append((part.base, part.base + part.size, part.file, 0))
            continue
        extents = extents_of(part, key, frame)
        placed += extents
        if not extents:
            name = part.name
            note(f'{name}: nothing of the image recognised; ignored (try {name}@OFFSET)')
    return frame, Extents(clip(placed, frame.image_bytes))


def clip(extents, size):
    return [(a, min(b, size), file, at) for a, b, file, at in extents if a < size]


# --- The walk: everything is checked before it is used --------------------------------------------


class Losses:
    """Where on the disk lost blocks were. Blocks come in X order."""

    def __init__(self, frame, output):
        self.frame, self.before, self.unknown, self.ranges = frame, -1, False, []
        self.output, self.limit = output, frame.capacity

    def by_table(self, place):
        """A lost block. A place that is None, or not above those before, is not known."""
        if place is None or place <= self.before:
            self.unknown = True
        else:
            self.by_head(place, True)

    def by_head(self, place, is_lost):
        self.end(place)
        self.before = place
        if is_lost:
            self.add(place, place + 1, True)

    def end(self, after):
        if self.unknown and self.before + 1 < after:
            self.add(self.before + 1, after, False)
        elif self.unknown:
            self.add(0, self.frame.disk_blocks, False)  # known places that lie
        self.unknown = False

    def add(self, first, end, exact):
        start = first * self.frame.block_size
        stop = min(end * self.frame.block_size, self.limit)
        add_range(self.ranges, start, stop, exact)
        if self.output is not None:
            self.output.lose(start, end * self.frame.block_size)


def add_range(ranges, start, stop, exact):
    """Adds a range at or behind the end of the list, joined with the last one where they touch."""
    if ranges:
        last_start, last_stop, last_exact = ranges[-1]
        touches = last_stop >= start and last_exact == exact
        if touches or len(ranges) >= MAX_RANGES:
            exact = exact and touches and start >= last_start
            ranges[-1] = (min(start, last_start), max(stop, last_stop), exact)
            return
    ranges.append((start, stop, exact))


class ZeroRanges:
    """Pages of zero ranges as they come, and stretches of places of which none is known."""

    def __init__(self, frame, output):
        self.frame, self.pages, self.unknown = frame, [], Losses(frame, output)
        self.output = output
        self.before, self.waiting, self.at = -1, False, [0, 0]

    def good(self, ranges):
        self.tell(ranges[0][0])
        self.before = ranges[-1][1]
        for first, end in ranges if self.output is not None else ():
            self.output.hole(first, end)
        if len(self.pages) < KEPT_PAGES:
            self.pages.append(array.array('Q', itertools.chain(*ranges)))

    def tell(self, after):
        """The first range known behind pages that cannot be used begins at `after`."""
        first, end = self.before + 1, after - 1
        if self.waiting:
            self.unknown.add(*((first, end) if first < end else (0, self.frame.disk_blocks)), False)
        self.waiting = False

    def __contains__(self, place):
        """Places are asked for in ascending order."""
        page, index = self.at
        while page < len(self.pages):
            ranges = self.pages[page]
            while index < len(ranges) and ranges[index + 1] <= place:
                index += 2
            if index < len(ranges):
                self.at = [page, index]
                return ranges[index] <= place
            page, index = page + 1, 0
        self.at = [page, index]
        return False


class Walk:
    """One pass over an image. `strict`: the first problem stops the program.

    Heads and blocks alone decide what is written. The table tells what is lost where a head proves
    nothing, and helps to repair heads.
    """

    def __init__(self, source, frame, strict, output):
        self.source, self.frame, self.strict, self.output = source, frame, strict, output
        self.pages, self.page_numbers = {}, []  # the numbers ascend
        self.problems, self.good, self.status = 0, 0, 0
        self.losses, self.before, self.next_segment = Losses(frame, output), -1, 0
        self.zeros = ZeroRanges(frame, output)
        self.digest = bytes(32)

    def problem(self, fault):
        if self.strict:
            raise fault
        self.problems += 1
        self.status = INVALID if INVALID in (self.status, fault.status) else fault.status
        if self.problems <= MAX_MESSAGES:
            note(fault)

    def run(self):
        if self.source.excess:
            self.problem(excess(self.source.excess))
        self.table()
        self.zero_ranges()
        for segment in self.source.indexes(
            self.frame.segments_offset, self.frame.full_segment, self.frame.segments
        ):
            self.missing(segment)
            self.segment(segment)
            self.next_segment = segment + 1
        self.missing(self.frame.segments)
        self.losses.end(self.frame.disk_blocks)
        self.trailer()

    def table(self):
        seen, before = 0, -1
        for page in self.source.indexes(UNIT, UNIT, self.frame.pages):
            candidates = self.source.read(UNIT + page * UNIT, UNIT)
            places = first_good(
                candidates, lambda data: decode_page(self.frame, page, data, before)
            )
            seen += 1
            if isinstance(places, Fault):
                self.problem(places)
                continue
            before = places[-1]
            if len(self.pages) < KEPT_PAGES:
                self.pages[page] = places
                self.page_numbers.append(page)
        if seen < self.frame.pages:
            message = f'{self.frame.pages - seen} pages of the correspondence table are missing'
            self.problem(Fault('IMAGE_TRUNCATED', message))

    def zero_ranges(self):
        frame, zeros, seen = self.frame, self.zeros, 0
        for page in self.source.indexes(frame.zeros_offset, UNIT, frame.zero_pages):
            zeros.waiting |= page > seen
            seen = page + 1
            data = None
            for data in self.source.read(frame.zeros_offset + page * UNIT, UNIT):
                found = decode_zero_page(frame, page, data, zeros.before)
                if not isinstance(found, Fault):
                    break
            if isinstance(found, Fault):
                self.problem(found)
                zeros.waiting, self.digest = True, None
                continue
            zeros.good(found)
            self.digest = self.digest and hashlib.sha256(self.digest + data).digest()
        zeros.waiting |= frame.zero_pages > seen
        if zeros.waiting and frame.zero_pages > seen:
            self.problem(Fault('IMAGE_TRUNCATED', 'pages of zero ranges are missing'))
        if zeros.waiting or zeros.unknown.ranges:
            self.digest = None
        zeros.tell(frame.disk_blocks + 1)

    def place(self, block):
        """The place of X by the table, or None."""
        page = self.pages.get(block // PAGE_ENTRIES)
        return None if page is None else page[block % PAGE_ENTRIES]

    def missing(self, end_segment):
        """Segments next_segment … end_segment - 1 are not there."""
        if self.next_segment >= end_segment:
            return
        self.digest = None
        message = f'segments {self.next_segment} … {end_segment - 1} are missing'
        self.problem(Fault('IMAGE_TRUNCATED', message))
        first = self.next_segment * self.frame.per_segment
        end = min(end_segment * self.frame.per_segment, self.frame.used_blocks)
        index = bisect.bisect_left(self.page_numbers, first // PAGE_ENTRIES)
        for page in itertools.islice(self.page_numbers, index, None):
            if page * PAGE_ENTRIES >= end:
                break
            start = max(first, page * PAGE_ENTRIES)
            if start > first:
                self.losses.by_table(None)
            first = min(end, (page + 1) * PAGE_ENTRIES)
            for block in range(start, first):
                self.losses.by_table(self.place(block))
        if first < end:
            self.losses.by_table(None)

    def segment(self, segment):
        first, count = segment * self.frame.per_segment, self.frame.count(segment)
        places = [self.place(block) for block in range(first, first + count)]
        whole = self.source.read(
            self.frame.segment_offset(segment), self.frame.segment_bytes(segment)
        )
        head, fault = self.find_head(segment, places)
        if head is None:
            self.digest = None
            self.problem(Fault(fault.code, f'{fault.problem}: its blocks are lost'))
            for place in places:
                self.losses.by_table(place)
            return
        if fault is not None:
            self.problem(fault)
        bare = bare_bytes(self.frame, segment)
        entries = list(ENTRY.iter_unpack(head[SEGMENT_HEADER:bare]))
        self.before = entries[-1][0]
        if any(known not in (None, entry[0]) for known, entry in zip(places, entries)):
            message = f'the head of segment {segment} and the correspondence table disagree'
            self.problem(Fault('IMAGE_INVALID', message))
        if any(entry[0] in self.zeros for entry in entries):
            message = f'a block of segment {segment} lies in a zero range'
            self.problem(Fault('IMAGE_INVALID', message))
        if not is_zero(head[bare:]):
            message = f'the padding of segment {segment} is damaged; no data is lost'
            self.problem(Fault('IMAGE_DAMAGED', message))
        if self.digest is not None:
            self.digest = hashlib.sha256(self.digest + head[:bare]).digest()
        self.blocks(segment, first, entries, whole)

    def find_head(self, segment, places):
        """The proven head of a segment with its padding, or None; the Fault of the one there."""
        frame, bare = self.frame, bare_bytes(self.frame, segment)
        offset, head_bytes = frame.segment_offset(segment), frame.head_bytes_for(len(places))
        head, fault = None, None
        for data in self.source.read(offset, head_bytes):
            found = decode_segment_head(frame, segment, data)
            if isinstance(found, Fault):
                fault = found if fault is None or found.code == 'IMAGE_INVALID' else fault
            elif head is not None and head[:bare] != data[:bare]:
                message = f'pieces hold different heads of segment {segment}'
                return None, Fault('IMAGE_INVALID', message)
            elif head is None:
                head = data
        if head is None:
            for data in self.source.read(offset, frame.segment_bytes(segment)):
                found = repaired_head(frame, segment, data, places)
                if found is not None:
                    head = found + data[bare:head_bytes]
                    break
        else:
            fault = None
        if head is None:
            return None, fault
        entries = ENTRY.iter_unpack(head[SEGMENT_HEADER:bare])
        if are_places(frame, segment * frame.per_segment, [e[0] for e in entries], self.before):
            return head, fault
        message = f'the places in the head of segment {segment} make no sense'
        return None, Fault('IMAGE_INVALID', message)

    def blocks(self, segment, first, entries, candidates):
        size, head_bytes = self.frame.block_size, self.frame.head_bytes_for(len(entries))
        found, bad = {}, list(range(len(entries)))
        for data in candidates:
            blocks = memoryview(data)[head_bytes:]
            for index in bad:
                block = blocks[index * size : (index + 1) * size]
                if zlib.crc32(block) == entries[index][1]:
                    found[index] = block
            bad = [index for index in bad if index not in found]
            if not bad:
                break
        if bad:
            message = f'{counted(len(bad), "block")} of segment {segment} {are(len(bad))} damaged'
            self.problem(Fault('IMAGE_DAMAGED', message))
        self.good += len(found)
        for index, (place, _) in enumerate(entries):
            self.losses.by_head(place, index not in found)
            if self.output is not None and index in found:
                self.output.put(first + index, place, found[index])

    def trailer(self):
        self.lost, unknown = self.losses.ranges, self.zeros.unknown.ranges
        if unknown:
            self.lost = []
            for lost in sorted(unknown + self.losses.ranges, key=lambda lost: lost[0]):
                add_range(self.lost, *lost)
        candidates = self.source.read(self.frame.trailer_offset, UNIT)
        digest = first_good(candidates, lambda data: decode_trailer(self.frame, data))
        if isinstance(digest, Fault):
            self.problem(digest)
        elif self.digest is not None and digest != self.digest:
            message = 'the trailer belongs to other segments: its digest differs'
            self.problem(Fault('IMAGE_INVALID', message))
        if isinstance(self.source, Stream) and not self.source.ended and self.source.file.read(1):
            self.problem(excess('some'))


def excess(count):
    return Fault('IMAGE_INVALID', f'{count} bytes follow the end of the image')


# --- Where the disk goes --------------------------------------------------------------------------


class Output:
    """A sparse file that gets its name when it is complete, or a block device."""

    def __init__(self, path, frame, compact, force):
        self.path, self.frame, self.compact = path, frame, compact
        self.size = frame.used_blocks * frame.block_size if compact else frame.capacity
        self.force, self.temporary, self.file, self.position = force, None, None, 0
        self.is_device = False

    def open(self):
        path = self.path
        kind = os.stat(path).st_mode if os.path.exists(path) else None
        self.is_device = kind is not None and stat.S_ISBLK(kind)
        if self.is_device:
            self.file = os.open(path, os.O_WRONLY | getattr(os, 'O_EXCL', 0))
            room = os.lseek(self.file, 0, os.SEEK_END)
            if room < self.size:
                raise Stop(FAILED, f'{path} has {room} bytes, the disk has {self.size}')
        elif kind is not None and not stat.S_ISREG(kind):
            raise Stop(FAILED, f'{path} is neither a file nor a block device')
        elif kind is not None and not self.force:
            raise Stop(FAILED, f'{path} exists (use --force to replace it)')
        else:
            folder = os.path.dirname(os.path.abspath(path))
            prefix = f'.{os.path.basename(path)}.'
            self.file, self.temporary = tempfile.mkstemp(prefix=prefix, dir=folder)
            os.truncate(self.file, self.size)

    def put(self, block, place, data):
        """Writes a block. Blocks come in ascending order."""
        offset = (block if self.compact else place) * self.frame.block_size
        view = memoryview(data)[: max(0, self.size - offset)]
        self.zero_until(offset)
        while view:
            written = os.pwrite(self.file, view, offset)
            view, offset = view[written:], offset + written
        self.position = max(self.position, offset)

    def zero_until(self, offset):
        """A device keeps what it held: what no block covers has to be made zero."""
        offset = min(offset, self.size)
        if self.is_device and offset > self.position:
            self.zero(self.position, offset)
        self.position = max(self.position, offset)

    def zero(self, start, stop):
        try:
            if fcntl is None or not self.is_device:
                raise OSError('no ioctl')
            fcntl.ioctl(self.file, BLKZEROOUT, struct.pack('QQ', start, stop - start))
        except OSError:
            for at in range(start, stop, SCAN_CHUNK):
                zeros = memoryview(bytes(min(SCAN_CHUNK, stop - at)))
                while zeros:
                    written = os.pwrite(self.file, zeros, at)
                    zeros, at = zeros[written:], at + written

    def wipe(self, start, stop):
        """Makes zeros of what was written before; holes of a file stay holes."""
        stop = min(stop, self.size)
        while start < stop:
            end = stop
            if not self.is_device and hasattr(os, 'SEEK_DATA'):
                try:
                    start = os.lseek(self.file, start, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:  # no data from there on
                        return
                    raise
                end = min(stop, os.lseek(self.file, start, os.SEEK_HOLE))
            if start < end:
                self.zero(start, end)
            start = end

    def hole(self, first, end):
        """A zero range: nothing was written there before."""

    def lose(self, start, stop):
        """Lost bytes: nothing was written there before."""

    def finish(self):
        self.zero_until(self.size)
        os.fsync(self.file)
        os.close(self.file)
        self.file = None
        if self.temporary is not None:
            os.replace(self.temporary, self.path)
            self.temporary = None

    def abandon(self):
        if self.file is not None:
            os.close(self.file)
        if self.temporary is not None:
            os.unlink(self.temporary)


# --- Chains: a full image and incremental ones on top of it ---------------------------------------


class Layer:
    """What one image of a chain changes on the output, on top of the older ones."""

    def __init__(self, output, frame, lost):
        self.output, self.size, self.lost = output, frame.block_size, lost

    def put(self, block, place, data):
        self.output.put(block, place, data)
        self.lost.decide(place * self.size, (place + 1) * self.size)

    def hole(self, first, end):
        self.output.wipe(first * self.size, end * self.size)
        self.lost.decide(first * self.size, end * self.size)

    def lose(self, start, stop):
        self.output.wipe(start, stop)


class ChainLosses:
    """What is lost of the disk after each image: newer ones decide about losses of older ones."""

    def __init__(self):
        self.ranges, self.starts, self.furthest, self.decided = [], [], [], []
        self.is_full = False

    def decide(self, start, stop):
        """The image says what is there."""
        index = bisect.bisect_left(self.starts, stop) - 1
        if index < 0 or self.furthest[index] <= start:
            return
        if len(self.decided) >= MAX_RANGES:
            self.is_full = True  # what follows is still counted as lost, but not exactly
        elif self.decided and self.decided[-1][1] == start:
            self.decided[-1] = (self.decided[-1][0], stop)
        else:
            self.decided.append((start, stop))

    def add(self, ranges, size):
        """The image is through and has lost these itself; the disk has `size` bytes."""
        left = [(a, b, exact and not self.is_full) for a, b, exact in self.ranges]
        left = list(without(left, sorted(self.decided)))
        merged = []
        for start, stop, exact in sorted(left + ranges, key=lambda lost: lost[0]):
            if start < size:
                add_range(merged, start, min(stop, size), exact)
        self.ranges, self.decided, self.is_full = merged, [], False
        self.starts = [start for start, _, _ in merged]
        self.furthest = list(itertools.accumulate((stop for _, stop, _ in merged), max))


def without(ranges, taken):
    """What is left of (start, stop, exact) without these (start, stop); both ascend."""
    for start, stop, exact in ranges:
        index = max(0, bisect.bisect_right(taken, (start, start)) - 1)
        for low, high in itertools.islice(taken, index, None):
            if low >= stop:
                break
            if low > start:
                yield start, low, exact
            start = max(start, high)
        if start < stop:
            yield start, stop, exact


def ordered(images):
    """(Frame, source) of a chain, the full image first. Stops if they are none."""
    copies, by_base = {}, {}
    for image in images:
        frame = image[0]
        if frame.copy_id in copies:
            raise Fault('IMAGE_INVALID', f'two images are of copy {uuid.UUID(bytes=frame.copy_id)}')
        copies[frame.copy_id] = frame
        by_base[frame.base and frame.base[0]] = image
    for frame in copies.values():
        base = frame.base and copies.get(frame.base[0])
        if frame.base and (base is None or base.generation not in (None, frame.base[1])):
            raise base_missing(frame)
        if base and base.block_size != frame.block_size:
            raise Fault('IMAGE_INVALID', 'the images have different block sizes')
    chain, image = [], by_base.get(None)
    while image is not None and len(chain) < len(images):
        chain.append(image)
        image = by_base.get(image[0].copy_id)
    if len(chain) < len(images):
        raise Fault('IMAGE_INVALID', 'the images are no chain of one full image and those on it')
    return chain


def restore_chain(chain, arguments, strict):
    newest = chain[-1][0]
    output = Output(arguments.output, newest, False, arguments.force)
    lost, good, problems = ChainLosses(), 0, 0
    try:
        output.open()
        for frame, source in chain:
            layer = Layer(output, frame, lost)
            end = frame.disk_blocks * frame.block_size
            if output.size > end:  # the disk was smaller: nothing of older images is left behind
                layer.hole(frame.disk_blocks, newest.disk_blocks)
            walk = Walk(source, frame, strict, layer)
            walk.losses.limit = walk.zeros.unknown.limit = end
            walk.run()
            output.zero_until(output.size)
            lost.add(walk.lost, min(end, newest.capacity))
            good, problems = good + walk.good, problems + walk.problems
        output.finish()
    except BaseException:
        output.abandon()
        raise
    blocks = sum(frame.used_blocks for frame, _ in chain)
    print_lost(lost.ranges)
    images = f'in {len(chain)} images, {counted(problems, "problem")}'
    print(f'{good} of {counted(blocks, "block")} {are(good)} good {images}')
    return LOSSES if problems else 0


# --- Commands -------------------------------------------------------------------------------------


def open_seekable(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return file, os.lseek(file, 0, os.SEEK_END)
    except OSError:
        raise Stop(USAGE, f'{path} cannot be read at random: give it by - on its own') from None


def open_image(path, strict):
    """Frame and source of one whole image."""
    if path == '-' or not is_seekable(path):
        file = sys.stdin.buffer if path == '-' else open(path, 'rb', buffering=0)
        source = Stream(file)
        return decode_header(next(source.read(0, UNIT))[: source.position]), source
    file, size = open_seekable(path)
    frame = decode_header(os.pread(file, UNIT, 0))
    is_device = stat.S_ISBLK(os.fstat(file).st_mode)
    behind = 0 if is_device else max(0, size - frame.image_bytes)
    if strict:
        if size < frame.image_bytes:
            message = f'the image has {size} of its {frame.image_bytes} bytes'
            raise Fault('IMAGE_TRUNCATED', message)
        if behind:
            raise excess(behind)
        digest = decode_trailer(frame, os.pread(file, UNIT, frame.trailer_offset))
        if isinstance(digest, Fault):
            raise digest
    return frame, Extents(clip([(0, size, file, 0)], frame.image_bytes), behind)


def is_seekable(path):
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def info(arguments):
    frame, _ = open_image(arguments.image, False)
    name = ''.join(letter if letter.isprintable() else '?' for letter in frame.name)
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=frame.frozen_at)
        moment = f'{moment.isoformat(timespec="milliseconds")}Z'
    except OverflowError:
        moment = f'{frame.frozen_at} ms after 1970'
    base = ()
    if frame.base is not None:
        base_id, generation = frame.base
        base = (('base id', f'{uuid.UUID(bytes=base_id)}, generation {generation}'),)
    rows = [
        ('disk', name),
        ('disk id', uuid.UUID(bytes=frame.disk_id)),
        ('copy id', uuid.UUID(bytes=frame.copy_id)),
        ('image id', uuid.UUID(bytes=frame.image_id)),
        ('frozen at', f'{moment}, generation {frame.generation}'),
        *base,
        ('capacity', f'{frame.capacity} bytes'),
        ('block size', f'{frame.block_size} bytes'),
        ('used', f'{counted(frame.used_blocks, "block")}, {frame.used_blocks * frame.block_size} bytes'),
        ('image', f'{frame.image_bytes} bytes, {counted(frame.segments, "segment")}'),
    ]
    for key, value in rows:
        print(f'{key:<11}{value}')
    return 0


def print_lost(ranges):
    for start, stop, exact in ranges:
        how = 'exact' if exact else 'within'
        print(f'lost: offset {start}, {counted(stop - start, "byte")} ({how})')


def summary(walk):
    print_lost(walk.lost)
    blocks = counted(walk.frame.used_blocks, 'block')
    print(f'{walk.good} of {blocks} {are(walk.good)} good, {counted(walk.problems, "problem")}')


def verify(arguments):
    frame, source = open_image(arguments.image, False)
    walk = Walk(source, frame, False, None)
    walk.run()
    summary(walk)
    return walk.status


def restore(arguments):
    strict = not (arguments.salvage or arguments.skip_damage)
    names = arguments.base + ([] if arguments.salvage else arguments.image)
    if len(arguments.image) + len(arguments.base) > 1 and arguments.compact and names:
        raise Stop(USAGE, 'a chain of images is restored as the whole disk, not --compact')
    if len(names) > 1 and '-' in names:
        raise Stop(USAGE, 'several images have to be files or devices')
    images = [open_image(name, strict) for name in names]
    if arguments.salvage:
        wanted = None if arguments.image_id is None else arguments.image_id.bytes
        images.append(assemble(arguments.image, wanted))
    if len(images) > 1:
        return restore_chain(ordered(images), arguments, strict)
    ((frame, source),) = images
    if frame.base is not None:
        raise base_missing(frame)
    output = Output(arguments.output, frame, arguments.compact, arguments.force)
    walk = Walk(source, frame, strict, output)
    try:
        output.open()
        walk.run()
        output.finish()
    except BaseException:
        output.abandon()
        raise
    summary(walk)
    return LOSSES if walk.problems else 0


def parse(argv):
    text = __doc__.split('\n', 1)
    parser = argparse.ArgumentParser(
        description=text[0], epilog=text[1], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, what in (('info', 'say what the image is'), ('verify', 'prove every byte of it')):
        command = commands.add_parser(name, help=what)
        command.add_argument('image', metavar='IMAGE', help='a file, a device, or - for stdin')
    command = commands.add_parser('restore', help='get the disk back')
    what = 'a file, a device, or -; several are a chain, with --salvage pieces'
    command.add_argument('image', nargs='+', metavar='IMAGE', help=what)
    command.add_argument('output', metavar='OUTPUT', help='a new file or a block device')
    command.add_argument('--compact', action='store_true', help='only the used blocks, head to end')
    command.add_argument('--force', action='store_true', help='replace OUTPUT if it is a file')
    command.add_argument('--skip-damage', action='store_true', help='go around damage, list losses')
    command.add_argument('--salvage', action='store_true', help='pieces of an image, in any order')
    what = 'an image of a base (may be given several times)'
    command.add_argument('--base', metavar='IMAGE', action='append', default=[], help=what)
    command.add_argument('--image-id', type=uuid.UUID, help='which image, if pieces hold several')
    return parser.parse_args(argv)


def main(argv):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')
    arguments = parse(argv)
    commands = {'info': info, 'verify': verify, 'restore': restore}
    try:
        return commands[arguments.command](arguments)
    except Stop as stop:
        note(stop)
        return stop.status
    except BrokenPipeError:
        return FAILED
    except (OSError, MemoryError) as error:
        note(error)
        return FAILED
    except KeyboardInterrupt:
        note('interrupted')
        return 130


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
