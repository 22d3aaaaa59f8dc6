#!/usr/bin/env python3
"""Restore a disk from a Spindle image. Needs Python 3.8 or newer and nothing else.

  spindle-restore.py info    IMAGE               what the image is
  spindle-restore.py verify  IMAGE               prove every byte, or list what is lost
  spindle-restore.py restore IMAGE OUTPUT        the disk as it was, into a sparse file or a device
  spindle-restore.py restore --compact IMAGE OUTPUT      only the used blocks, head to end
  spindle-restore.py restore --salvage PART... OUTPUT    from pieces, in any order

IMAGE may be - for standard input. With --salvage each PART is a piece of one image, cut anywhere,
with or without its head; a piece that holds no segment's start can be placed by hand as
PART@OFFSET (its offset in the image in bytes).

Damage stops a restore, unless --skip-damage (implied by --salvage) is given: then all that can be
proven is restored, and each lost range of the disk is printed as
  lost OFFSET LENGTH exact      these bytes are lost; they read as zeros in OUTPUT
  lost OFFSET LENGTH within     the lost blocks lay somewhere in this range

Exit status: 0 all restored or proven; 1 the system failed (reading, writing, no room);
2 wrong usage; 3 no image, a newer format, or one that contradicts itself;
4 the image is damaged or incomplete, and was not restored; 5 restored, but with losses.

The format is described in docs/format/image.md of Spindle's source.
"""

import argparse
import array
import bisect
import datetime
import hashlib
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
MAX_BLOCKS = 2**32 - 2
MAX_CAPACITY = 2**53 - 512
MAX_TIME_MS = 8_640_000_000_000_000
MAX_RANGES = 65536  # lost ranges kept; what follows widens the last one
MAX_MESSAGES = 1000
KEPT_PAGES = 16384  # of the table, to know where lost blocks belonged: 64 MiB
MAX_CANDIDATES = 16  # versions of one segment looked at where pieces overlap
MAX_PIECES = 4096  # that one segment may be put together from
SCAN_CHUNK = 4 << 20
BLKZEROOUT = 0x127F  # linux/fs.h

FAILED, USAGE, INVALID, DAMAGED, LOSSES = 1, 2, 3, 4, 5

HEADER_MAGIC, HEADER_SALT = b'SPDLHEAD', b'spindle image header'
SEGMENT_MAGIC, SEGMENT_SALT = b'SPDLSEGM', b'spindle image segment'
TRAILER_MAGIC, TRAILER_SALT = b'SPDLTAIL', b'spindle image trailer'
TABLE_SALT = b'spindle image table'
# magic, version, block size, incompatible features, read-only-compatible features, image, copy,
# disk, capacity, used blocks, generation, frozen at, image bytes, zero ranges, options, name
HEADER = struct.Struct('<8sIIQQ16s16s16sQQQQQQ64sB254s')
# magic, version, block size, incompatible features, image, copy, disk, capacity, used blocks,
# first block, sequence, count
SEGMENT = struct.Struct('<8sIIQ16s16s16sQQQII')
# magic, version, block size, incompatible features, image, used blocks, segments, table pages,
# zero ranges, image bytes, digest
TRAILER = struct.Struct('<8sIIQ16sQQQQQ32s')
TRAILER_END = b'END OF IMAGE'


class Stop(Exception):
    """Ends the program with a sentence and an exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def salted_crc(salt, data):
    return zlib.crc32(data, zlib.crc32(salt))


def is_zero(data):
    return data.count(0) == len(data)


# --- What an image is and where its parts lie -----------------------------------------------------


class Frame:
    """An image's facts, from its header or from any of its segments, and all offsets."""

    def __init__(self, image_id, copy_id, disk_id, capacity, block_size, used_blocks):
        if block_size not in [1 << power for power in range(14, 21)]:
            raise Stop(INVALID, f'the image makes no sense: block size {block_size}')
        if not 512 <= capacity <= MAX_CAPACITY or capacity % 512:
            raise Stop(INVALID, f'the image makes no sense: capacity {capacity}')
        self.disk_blocks = -(-capacity // block_size)
        if used_blocks > min(MAX_BLOCKS, self.disk_blocks):
            raise Stop(INVALID, f'the image makes no sense: {used_blocks} used blocks')
        options = struct.pack('<I', VERSION) + bytes(64)
        digest = bytearray(hashlib.sha256(copy_id + options).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        if bytes(digest) != image_id:
            raise Stop(INVALID, 'the image makes no sense: image UUID')
        self.image_id, self.copy_id, self.disk_id = image_id, copy_id, disk_id
        self.capacity, self.block_size, self.used_blocks = capacity, block_size, used_blocks
        self.per_segment = SEGMENT_DATA // block_size
        self.pages = -(-used_blocks // PAGE_ENTRIES)
        self.segments = -(-used_blocks // self.per_segment)
        self.segments_offset = UNIT + self.pages * UNIT
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

    def page_entries(self, page):
        return min(PAGE_ENTRIES, self.used_blocks - page * PAGE_ENTRIES)


def check_version(version, features):
    if version > VERSION:
        raise Stop(INVALID, f'the image has format version {version}; this program reads {VERSION}')
    if features:
        raise Stop(INVALID, f'the image uses features unknown to this program ({features:#x})')


def decode_header(data):
    """The Frame, name, generation and time in a header. Stops if it is not valid."""
    if len(data) < UNIT:
        raise Stop(DAMAGED, 'shorter than the header of an image')
    fields = HEADER.unpack_from(data, 2048)
    if fields[0] != HEADER_MAGIC:
        raise Stop(INVALID, 'this is no Spindle image (with a damaged head try --salvage)')
    (crc,) = struct.unpack_from('<I', data, UNIT - 4)
    if crc != salted_crc(HEADER_SALT, data[: UNIT - 4]):
        raise Stop(INVALID, 'the header of the image is damaged (try --salvage)')
    _, version, block_size, features, read_only = fields[:5]
    image_id, copy_id, disk_id, capacity, used = fields[5:10]
    generation, frozen_at, image_bytes, zero_ranges, options, name_length, name = fields[10:]
    check_version(version, features)
    frame = Frame(image_id, copy_id, disk_id, capacity, block_size, used)
    if image_bytes != frame.image_bytes or zero_ranges or not is_zero(options):
        raise Stop(INVALID, 'the header of the image contradicts itself')
    rest = name[name_length:] + data[2048 + HEADER.size : UNIT - 4]
    if not 1 <= name_length <= 254 or (not read_only and not is_zero(rest)):
        raise Stop(INVALID, 'the header of the image has stray bytes')
    try:
        frame.name = name[:name_length].decode('utf-8')
    except UnicodeDecodeError:
        raise Stop(INVALID, 'the header of the image makes no sense: disk name') from None
    if any(unicodedata.category(letter) == 'Cc' for letter in frame.name):
        raise Stop(INVALID, 'the header of the image makes no sense: disk name')
    if not 1 <= generation < 2**53 or frozen_at > MAX_TIME_MS:
        raise Stop(INVALID, 'the header of the image makes no sense: generation or time')
    frame.generation, frame.frozen_at = generation, frozen_at
    return frame


def decode_page(frame, page, data):
    """The places on a table page, or None if it is damaged."""
    tag, number, crc = struct.unpack_from('<8sII', data, PAGE_ENTRIES * 8)
    if crc != salted_crc(TABLE_SALT, data[: UNIT - 4]):
        return None
    if number != page or tag != frame.image_id[:8]:
        return None
    count = frame.page_entries(page)
    if not is_zero(data[count * 8 : PAGE_ENTRIES * 8]):
        raise Stop(INVALID, f'table page {page} has entries beyond the last block')
    places = array.array('Q', struct.unpack_from(f'<{count}Q', data))
    check_places(frame, page * PAGE_ENTRIES, places, -1)
    return places


def check_places(frame, first, places, before):
    last = max(before, first - 1)
    for place in places:
        if not last < place < frame.disk_blocks:
            raise Stop(INVALID, f'block {place} is out of order or off the disk')
        last = place


def segment_frame(data):
    """Frame and number of the segment whose head `data` begins with, or None."""
    if len(data) < SEGMENT_HEADER:
        return None
    fields = SEGMENT.unpack_from(data)
    _, version, block_size, features, image_id, copy_id, disk_id, capacity, used = fields[:9]
    sequence, count = fields[10:]
    bare = SEGMENT_HEADER + count * ENTRY.size
    if count > SEGMENT_DATA >> 14 or len(data) < bare:
        return None
    if struct.unpack_from('<I', data, 252)[0] != head_crc(data[:bare]):
        return None
    try:
        check_version(version, features)
        frame = Frame(image_id, copy_id, disk_id, capacity, block_size, used)
    except Stop:
        return None
    if sequence >= frame.segments or data[:252] != segment_fields(frame, sequence):
        return None
    return frame, sequence


def segment_fields(frame, segment):
    """What the first 252 bytes of this segment must be."""
    fields = SEGMENT.pack(
        SEGMENT_MAGIC, VERSION, frame.block_size, 0, frame.image_id, frame.copy_id, frame.disk_id,
        frame.capacity, frame.used_blocks, segment * frame.per_segment, segment,
        frame.count(segment),
    )  # fmt: skip
    return fields.ljust(252, b'\0')


def head_crc(bare_head):
    return zlib.crc32(bare_head[SEGMENT_HEADER:], salted_crc(SEGMENT_SALT, bare_head[:252]))


def decode_segment_head(frame, segment, data):
    """[(place, checksum)] of a segment, or None if its head is damaged or another one's."""
    bare = data[: SEGMENT_HEADER + frame.count(segment) * ENTRY.size]
    if bare[:252] != segment_fields(frame, segment):
        return None
    if struct.unpack_from('<I', bare, 252)[0] != head_crc(bare):
        return None
    return list(ENTRY.iter_unpack(bare[SEGMENT_HEADER:]))


def decode_trailer(frame, data):
    """The digest in the trailer, or None if it is not this image's."""
    if len(data) < UNIT:
        return None
    digest = data[80:112]
    fields = TRAILER.pack(
        TRAILER_MAGIC, VERSION, frame.block_size, 0, frame.image_id, frame.used_blocks,
        frame.segments, frame.pages, 0, frame.image_bytes, digest,
    )  # fmt: skip
    whole = fields.ljust(UNIT - 4 - len(TRAILER_END), b'\0') + TRAILER_END
    whole += struct.pack('<I', salted_crc(TRAILER_SALT, whole))
    return digest if data == whole else None


# --- Where the bytes of an image come from --------------------------------------------------------


class Stream:
    """An image that can only be read from head to end."""

    def __init__(self, file):
        self.file, self.position, self.ended = file, 0, False

    def indexes(self, first_offset, stride, count):
        """Numbers of the structures of `stride` bytes that may be there, as far as they go."""
        for index in range(count):
            if self.ended:
                return
            yield index

    def read(self, offset, length):
        """The bytes from here on; missing ones are zeros."""
        assert offset == self.position or self.ended
        parts, left = [], length
        while left and not self.ended:
            part = self.file.read(left)
            self.ended = not part
            parts.append(part)
            left -= len(part)
        self.position += length - left
        return iter([b''.join(parts).ljust(length, b'\0')])


class Extents:
    """Pieces of an image in files. An extent is (image offset, end, file, file offset)."""

    def __init__(self, extents):
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

    def __init__(self, at, length, image_id, frame, image_offset):
        self.at, self.end = at, at + length
        self.image_id, self.frame, self.image_offset = image_id, frame, image_offset


MAGICS = re.compile(b'SPDL(?:HEAD|SEGM|TAIL)')


def anchors(file, size):
    """All anchors in a file. What lies inside good blocks (a nested image) is none."""
    found, at, base, data = [], 0, 0, b''
    while at < size:
        if not base <= at < base + len(data) - len(HEADER_MAGIC):
            base, data = at, os.pread(file, SCAN_CHUNK, at)
        hit = MAGICS.search(data, at - base)
        if hit is None:
            if base + len(data) >= size or not data:
                break
            at = base + max(1, len(data) - len(HEADER_MAGIC) + 1)
            continue
        at = base + hit.start()
        anchor = anchor_at(file, at)
        if anchor is not None:
            found.append(anchor)
        at = max(at + 1, anchor.end if anchor is not None else 0)
    return found


def anchor_at(file, at):
    """The anchor whose magic stands at `at`, or None."""
    data = os.pread(file, 2 * UNIT, at)
    if data.startswith(HEADER_MAGIC):
        try:
            frame = decode_header(os.pread(file, UNIT, at - 2048)) if at >= 2048 else None
        except Stop:
            return None
        return frame and Anchor(at - 2048, UNIT, frame.image_id, frame, 0)
    if data.startswith(TRAILER_MAGIC):
        crc = data[UNIT - 4 : UNIT]
        if crc != struct.pack('<I', salted_crc(TRAILER_SALT, data[: UNIT - 4])):
            return None
        image_id = TRAILER.unpack_from(data)[4]
        return Anchor(at, UNIT, image_id, None, None)
    found = segment_frame(data)
    if found is None:
        return None
    frame, segment = found
    length = frame.head_bytes_for(frame.count(segment))
    for _, checksum in decode_segment_head(frame, segment, data):
        if zlib.crc32(os.pread(file, frame.block_size, at + length)) != checksum:
            break
        length += frame.block_size
    return Anchor(at, length, frame.image_id, frame, frame.segment_offset(segment))


def extents_of(file, size, found, frame):
    """Extents of a file from its anchors: each holds for what surrounds it."""
    extents, start = [], 0
    for index, anchor in enumerate(found):
        offset = frame.trailer_offset if anchor.frame is None else anchor.image_offset
        end = size if index == len(found) - 1 else max(found[index + 1].at, start)
        delta = offset - anchor.at
        low, high = max(start + delta, 0), min(end + delta, frame.image_bytes)
        if low < high:
            if extents and extents[-1][3] - extents[-1][0] == -delta:
                low = extents.pop()[0]
            extents.append((low, high, file, low - delta))
        start = min(anchor.end, size)
    return extents


def assemble(parts, image_id):
    """The Frame and the Extents of the image that the parts belong to."""
    placed, scanned = [], []
    for name in parts:
        path, _, offset = name.rpartition('@')
        by_hand = path and offset.isdigit() and not os.path.exists(name)
        file, size = open_seekable(path if by_hand else name)
        if by_hand:
            placed.append((int(offset), int(offset) + size, file, 0))
        scanned.append((name, file, size, by_hand, anchors(file, size)))
    frames = {a.image_id: a.frame for part in scanned for a in part[4] if a.frame is not None}
    if image_id is not None:
        frames = {key: frame for key, frame in frames.items() if key == image_id}
    if not frames:
        raise Stop(INVALID, 'no header and no segment of the image was found')
    if len(frames) > 1:
        names = ', '.join(str(uuid.UUID(bytes=key)) for key in frames)
        raise Stop(INVALID, f'pieces of several images: choose one by --image-id: {names}')
    ((key, frame),) = frames.items()
    for name, file, size, by_hand, found in scanned:
        mine = [anchor for anchor in found if anchor.image_id == key]
        if not by_hand:
            placed += extents_of(file, size, mine, frame)
            if not mine:
                note(f'{name}: nothing of the image recognised; ignored (try {name}@OFFSET)')
    return frame, Extents(clip(placed, frame.image_bytes))


def clip(extents, size):
    return [(a, min(b, size), file, at) for a, b, file, at in extents if a < size]


# --- The walk: everything is checked before it is used --------------------------------------------


class Losses:
    """Where on the disk lost blocks were. Blocks come in X order."""

    def __init__(self, frame):
        self.frame, self.before, self.unknown, self.ranges = frame, -1, False, []

    def next(self, place, is_lost):
        """A block at `place`; None if that is unknown (then it is lost)."""
        if place is None:
            self.unknown = True
            return
        self.end(place)
        self.before = place
        if is_lost:
            self.add(place, place + 1, True)

    def end(self, after):
        if self.unknown:
            self.add(self.before + 1, after, False)
        self.unknown = False

    def add(self, first, end, exact):
        start = first * self.frame.block_size
        stop = min(end * self.frame.block_size, self.frame.capacity)
        if self.ranges:
            last_start, last_stop, last_exact = self.ranges[-1]
            touches = last_stop >= start and last_exact == exact
            if touches or len(self.ranges) >= MAX_RANGES:
                self.ranges[-1] = (last_start, max(stop, last_stop), exact and touches)
                return
        self.ranges.append((start, stop, exact))


class Walk:
    """One pass over an image. `strict`: the first problem stops the program."""

    def __init__(self, source, frame, strict, output):
        self.source, self.frame, self.strict, self.output = source, frame, strict, output
        self.pages, self.page_numbers = {}, []  # the numbers ascend
        self.problems, self.good = 0, 0
        self.losses, self.before, self.next_segment = Losses(frame), -1, 0
        self.digest = bytes(32)

    def problem(self, message):
        if self.strict:
            raise Stop(DAMAGED, message)
        self.problems += 1
        if self.problems <= MAX_MESSAGES:
            note(message)

    def run(self):
        self.table()
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
        seen = 0
        for page in self.source.indexes(UNIT, UNIT, self.frame.pages):
            candidates = self.source.read(UNIT + page * UNIT, UNIT)
            decoded = (decode_page(self.frame, page, data) for data in candidates)
            places = next((found for found in decoded if found is not None), None)
            seen += 1
            if places is None:
                self.problem(f'page {page} of the correspondence table is damaged')
            elif len(self.pages) < KEPT_PAGES:
                self.pages[page] = places
                self.page_numbers.append(page)
        if seen < self.frame.pages:
            self.problem(f'{self.frame.pages - seen} pages of the correspondence table are missing')

    def place(self, block):
        """The place of X by the table, or None."""
        page = self.pages.get(block // PAGE_ENTRIES)
        return None if page is None else page[block % PAGE_ENTRIES]

    def missing(self, end_segment):
        """Segments next_segment … end_segment - 1 are not there."""
        if self.next_segment >= end_segment:
            return
        self.digest = None
        self.problem(f'segments {self.next_segment} … {end_segment - 1} are missing')
        first = self.next_segment * self.frame.per_segment
        end = min(end_segment * self.frame.per_segment, self.frame.used_blocks)
        index = bisect.bisect_left(self.page_numbers, first // PAGE_ENTRIES)
        for page in itertools.islice(self.page_numbers, index, None):
            if page * PAGE_ENTRIES >= end:
                break
            start = max(first, page * PAGE_ENTRIES)
            if start > first:
                self.losses.next(None, True)
            first = min(end, (page + 1) * PAGE_ENTRIES)
            for block in range(start, first):
                self.losses.next(self.place(block), True)
        if first < end:
            self.losses.next(None, True)

    def segment(self, segment):
        frame = self.frame
        read = self.source.read(frame.segment_offset(segment), frame.segment_bytes(segment))
        first, count = segment * frame.per_segment, frame.count(segment)
        places = [self.place(block) for block in range(first, first + count)]
        tried, entries = [], None
        while entries is None:
            head = next(read, None)
            if head is None:
                break
            tried.append(head)
            entries = decode_segment_head(frame, segment, head)
        if entries is None:
            self.digest = None
            self.problem(f'the head of segment {segment} is damaged: its blocks are lost')
            for place in places:
                self.losses.next(place, True)
            return
        self.check_entries(segment, first, entries, places)
        bare = SEGMENT_HEADER + count * ENTRY.size
        if not is_zero(head[bare : frame.head_bytes_for(count)]):
            self.problem(f'the padding of segment {segment} is damaged; no data is lost')
        if self.digest is not None:
            self.digest = hashlib.sha256(self.digest + head[:bare]).digest()
        self.blocks(segment, first, entries, itertools.chain(tried, read))

    def check_entries(self, segment, first, entries, places):
        check_places(self.frame, first, [place for place, _ in entries], self.before)
        self.before = entries[-1][0]
        for (place, _), by_table in zip(entries, places):
            if by_table is not None and by_table != place:
                raise Stop(INVALID, f'segment {segment} and the correspondence table disagree')

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
            self.problem(f'{len(bad)} blocks of segment {segment} are damaged')
        self.good += len(found)
        for index, (place, _) in enumerate(entries):
            self.losses.next(place, index not in found)
            if self.output is not None and index in found:
                self.output.put(first + index, place, found[index])

    def trailer(self):
        candidates = self.source.read(self.frame.trailer_offset, UNIT)
        digests = (decode_trailer(self.frame, data) for data in candidates)
        digest = next((found for found in digests if found is not None), None)
        if digest is None:
            self.problem('the image has no valid trailer: it is not complete')
        elif self.digest is not None and digest != self.digest:
            self.problem('the trailer belongs to other segments')
        if isinstance(self.source, Stream) and not self.source.ended and self.source.file.read(1):
            self.problem('bytes follow the end of the image')


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
        view = memoryview(data)[: self.size - offset]
        self.zero_until(offset)
        while view:
            written = os.pwrite(self.file, view, offset)
            view, offset = view[written:], offset + written
        self.position = offset

    def zero_until(self, offset):
        """A device keeps what it held: what no block covers has to be made zero."""
        if not self.is_device or offset <= self.position:
            return
        length = offset - self.position
        try:
            request = struct.pack('QQ', self.position, length)
            if fcntl is None:
                raise OSError('no ioctl')
            fcntl.ioctl(self.file, BLKZEROOUT, request)
        except OSError:
            for at in range(self.position, offset, SCAN_CHUNK):
                zeros = memoryview(bytes(min(SCAN_CHUNK, offset - at)))
                while zeros:
                    written = os.pwrite(self.file, zeros, at)
                    zeros, at = zeros[written:], at + written
        self.position = offset

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
    source = Extents([(0, size, file, 0)])
    frame = decode_header(os.pread(file, UNIT, 0))
    is_device = stat.S_ISBLK(os.fstat(file).st_mode)
    if size < frame.image_bytes and strict:
        raise Stop(DAMAGED, f'the image has {size} of its {frame.image_bytes} bytes')
    if size > frame.image_bytes and not is_device:
        message = f'{size - frame.image_bytes} bytes follow the end of the image'
        if strict:
            raise Stop(INVALID, message)
        note(message)
    if strict and decode_trailer(frame, os.pread(file, UNIT, frame.trailer_offset)) is None:
        raise Stop(DAMAGED, 'the image has no valid trailer: it is not complete')
    return frame, Extents(clip([(0, size, file, 0)], frame.image_bytes))


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
    rows = [
        ('disk', name),
        ('disk id', uuid.UUID(bytes=frame.disk_id)),
        ('copy id', uuid.UUID(bytes=frame.copy_id)),
        ('image id', uuid.UUID(bytes=frame.image_id)),
        ('frozen at', f'{moment}, generation {frame.generation}'),
        ('capacity', f'{frame.capacity} bytes'),
        ('block size', f'{frame.block_size} bytes'),
        ('used', f'{frame.used_blocks} blocks, {frame.used_blocks * frame.block_size} bytes'),
        ('image', f'{frame.image_bytes} bytes, {frame.segments} segments'),
    ]
    for key, value in rows:
        print(f'{key:<11}{value}')
    return 0


def summary(walk):
    for start, stop, exact in walk.losses.ranges:
        print(f'lost {start} {stop - start} {"exact" if exact else "within"}')
    print(f'{walk.good} of {walk.frame.used_blocks} blocks are good, {walk.problems} problems')


def verify(arguments):
    frame, source = open_image(arguments.image, False)
    walk = Walk(source, frame, False, None)
    walk.run()
    summary(walk)
    return DAMAGED if walk.problems else 0


def restore(arguments):
    strict = not (arguments.salvage or arguments.skip_damage)
    if arguments.salvage:
        wanted = None if arguments.image_id is None else arguments.image_id.bytes
        frame, source = assemble(arguments.image, wanted)
    elif len(arguments.image) > 1:
        raise Stop(USAGE, 'several pieces need --salvage')
    else:
        frame, source = open_image(arguments.image[0], strict)
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
    command.add_argument('image', nargs='+', metavar='IMAGE', help='a file, a device, or -')
    command.add_argument('output', metavar='OUTPUT', help='a new file or a block device')
    command.add_argument('--compact', action='store_true', help='only the used blocks, head to end')
    command.add_argument('--force', action='store_true', help='replace OUTPUT if it is a file')
    command.add_argument('--skip-damage', action='store_true', help='go around damage, list losses')
    command.add_argument('--salvage', action='store_true', help='pieces of an image, in any order')
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
