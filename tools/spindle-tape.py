#!/usr/bin/env python3
"""Get Spindle images back from tape cartridges. Needs Python 3.8 or newer and nothing else.

  spindle-tape.py list    FILE...                which cartridges and backups these files hold
  spindle-tape.py verify  FILE...                prove every record, or list what is lost
  spindle-tape.py extract FILE... [--output DIR] each backup as DIR/NAME.spindle

Each FILE is a .tap file (SIMH) of a whole cartridge, or what dd read: a tape file, or several of
them one behind the other. To read a cartridge with dd, in variable block mode:

  mt -f /dev/nst0 setblk 0; mt -f /dev/nst0 rewind
  dd if=/dev/nst0 of=file.0 bs=1M                and so on with file.1, file.2, until nothing comes

The files of all cartridges are given together, in any order. --backup NAME (or its id) chooses; it
can be given several times. Then: spindle-restore.py restore NAME.spindle disk.raw

A bad record costs only its own bytes. If bytes of a backup are missing, it is not extracted, unless
--skip-damage is given: then what is missing is zeros, and each range of the image is printed as
  lost: offset OFFSET, LENGTH bytes
spindle-restore.py restore --skip-damage goes around it, and says what of the disk it costs.

Exit status: 0 all extracted or proven; 1 the system failed (reading, writing, no room);
2 wrong usage; 3 no records of Spindle, or of a newer version; 4 bytes are missing, and nothing was
made of that backup; 5 extracted, but with bytes missing.

The format is described in docs/format/tape.md of Spindle's source.
"""

import argparse
import bisect
import hashlib
import json
import mmap
import os
import re
import struct
import sys
import uuid
import zlib

VERSION = 1
MAGIC = b'SPDLTAPE'
SALT = zlib.crc32(b'spindle tape record')
# magic, version, length, kind, flags, volume, backup, part, number of the part, sequence, offset,
# payload, reserved, CRC
HEAD = struct.Struct('<8sIIII16s16s16sIIQI32sI')
LABEL, HEADER, DATA, MANIFEST, TRAILER = 1, 2, 3, 4, 5
LABEL_BYTES = 65536
MIN_RECORD, MAX_RECORD = 65536, 1 << 20
MAX_OFFSET = 2**53 - 1
MAX_MANIFEST = 1 << 20
MAX_MESSAGES = 1000
NAME = re.compile(r'[a-z0-9][a-z0-9._-]{0,62}\Z')
NOT_ZERO = re.compile(rb'[^\0]')
TAP_END, TAP_GAP = 0xFFFFFFFF, 0xFFFFFFFE

FAILED, USAGE, INVALID, DAMAGED, LOSSES = 1, 2, 3, 4, 5


class Stop(Exception):
    """Ends the program with a sentence and an exit status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Notes:
    """Messages for people, on standard error, not endlessly many."""

    count = 0

    @classmethod
    def say(cls, message):
        cls.count += 1
        if cls.count <= MAX_MESSAGES:
            print(f'spindle-tape: {message}', file=sys.stderr)
        elif cls.count == MAX_MESSAGES + 1:
            print('spindle-tape: more such messages are left out', file=sys.stderr)


def counted(number, noun):
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


# --- Records --------------------------------------------------------------------------------------


class Record:
    """A good record: its fields and a view on its payload."""

    def __init__(self, fields, payload, crc):
        self.size, self.kind, self.flags, self.volume, self.backup, self.part_id = fields[2:8]
        self.part, self.sequence, self.offset = fields[8:11]
        self.payload, self.crc = payload, crc


def record_at(data, at, limit):
    """The good record that begins there, or None. `limit`: where it must have ended."""
    if limit - at < HEAD.size or data[at : at + 8] != MAGIC:
        return None
    fields = HEAD.unpack_from(data, at)
    version, size, kind, flags = fields[1:5]
    if not MIN_RECORD <= size <= MAX_RECORD or size % 4096 or at + size > limit:
        return None
    with memoryview(data) as view:
        crc = zlib.crc32(view[at + 128 : at + size], zlib.crc32(view[at : at + 124], SALT))
    if crc != fields[-1]:
        return None
    if version > VERSION:
        raise Stop(INVALID, f'records of format version {version}; this program reads {VERSION}')
    length, reserved = fields[11], fields[12]
    payload = data[at + 128 : at + 128 + length]
    if version != VERSION or not 1 <= length <= size - 128 or any(reserved):
        return None
    if not LABEL <= kind <= TRAILER or fields[10] + length > MAX_OFFSET:
        return None
    if flags != (0 if kind != TRAILER else flags if flags in (1, 2) else -1):
        return None
    if (kind in (LABEL, HEADER)) != (fields[9] == 0) or (kind == LABEL and size != LABEL_BYTES):
        return None
    if kind not in (DATA, MANIFEST) and fields[10]:
        return None
    return Record(fields, payload, crc)


def records_of(path, on_problem):
    """All good records of a file, in order. Tells of bytes that are none."""
    with open(path, 'rb') as file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = tap_records if is_tap(path, data) else dump_records
            yield from walk(data, on_problem)


def is_tap(path, data):
    if data[:8] == MAGIC:
        return False
    return path.lower().endswith('.tap') or data[4:12] == MAGIC


def tap_records(data, on_problem):
    """Records between the lengths of a .tap file; where those are damaged, found by their magic."""
    at, end, volume = 0, len(data), None
    while at + 4 <= end:
        (word,) = struct.unpack_from('<I', data, at)
        if word == TAP_END:
            return
        if word in (0, TAP_GAP):
            at += 4
            continue
        length = word & 0xFFFFFF
        behind = at + 4 + length + length % 2
        if behind + 4 > end or data[behind : behind + 4] != data[at : at + 4]:
            on_problem(f'the .tap file is damaged or cut at byte {at}')
            yield from dump_records(data, on_problem, at, volume)
            return
        record = record_at(data, at + 4, at + 4 + length)
        if record is None or record.size != length:
            on_problem(f'a bad record at byte {at}')
        elif volume in (None, record.volume):
            volume = record.volume
            yield record
        else:
            on_problem(f'a record of another cartridge at byte {at}')
        at = behind + 4


def dump_records(data, on_problem, at=0, volume=None):
    """Records one behind the other. Behind a bad one the next is looked for.

    A disk may hold cartridges itself: behind damage, only records of the same cartridge count.
    """
    end, size = len(data), None
    while at < end:
        record = record_at(data, at, end)
        if record is None:  # perhaps dd has padded the one before with zeros
            padded = NOT_ZERO.search(data, at)
            behind = padded.start() if padded else end
            record = record_at(data, behind, end)
            at = behind if record is not None or behind == end else at
        if record is not None and (record.kind == LABEL or volume in (None, record.volume)):
            volume = record.volume
            size = record.size if record.kind != LABEL else size
            yield record
            at += record.size
            continue
        if at < end:
            behind = next_record(data, at, end, size, volume)
            on_problem(f'{counted(behind - at, "byte")} that are no good record at byte {at}')
            at = behind


def next_record(data, at, end, size, volume):
    """Where the next good record begins, or the end."""
    if size is not None and is_of(record_at(data, at + size, end), volume):
        return at + size
    found = data.find(MAGIC, at + 1)
    while found >= 0:
        if is_of(record_at(data, found, end), volume):
            return found
        found = data.find(MAGIC, found + 1)
    return end


def is_of(record, volume):
    return record is not None and volume in (None, record.volume)


def json_of(payload):
    try:
        value = json.loads(payload.decode('utf-8'))
    except (UnicodeDecodeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# --- Backups --------------------------------------------------------------------------------------


class Ranges:
    """Ranges of bytes that are there, joined where they touch."""

    def __init__(self):
        self.starts, self.ends = [], []

    def add(self, start, end):
        first = bisect.bisect_left(self.ends, start)
        last = bisect.bisect_right(self.starts, end)
        if first < last:
            start, end = min(start, self.starts[first]), max(end, self.ends[last - 1])
        self.starts[first:last], self.ends[first:last] = [start], [end]

    def holes(self, end):
        """[(offset, length)] below `end` that are not there."""
        holes, reached = [], 0
        for start, stop in zip(self.starts + [end], self.ends + [end]):
            if min(start, end) > reached:
                holes.append((reached, min(start, end) - reached))
            reached = max(reached, stop)
        return holes

    @property
    def end(self):
        return self.ends[-1] if self.ends else 0


class Backup:
    """What was found of one backup."""

    def __init__(self, backup_id):
        self.id, self.name, self.length = str(uuid.UUID(bytes=backup_id)), None, None
        self.ranges, self.manifests, self.finals, self.digests = Ranges(), {}, {}, {}

    def title(self):
        return f'{self.name or "without name"} ({self.id})'

    def holes(self):
        return self.ranges.holes(self.length if self.length is not None else self.ranges.end)

    def is_whole(self):
        return self.length is not None and not self.holes()

    def manifest(self):
        """The bytes of the manifest, or None."""
        for part_id, length in self.finals.items():
            pieces = sorted(self.manifests.get(part_id, {}).items())
            whole = b''.join(piece for _, piece in pieces)
            offsets = [sum(len(piece) for _, piece in pieces[:i]) for i in range(len(pieces))]
            if len(whole) == length and offsets == [offset for offset, _ in pieces]:
                return whole
        return None


class Finder:
    """Takes records of any cartridges in any order. `on_data` gets each good piece of an image."""

    def __init__(self, wanted, on_data=None):
        self.backups, self.labels, self.problems = {}, {}, 0
        self.wanted, self.on_data = wanted, on_data

    def read(self, path):
        def on_problem(text):
            self.problems += 1
            Notes.say(f'{path}: {text}')

        count = 0
        for record in records_of(path, on_problem):
            self.take(record)
            count += 1
        if count == 0 and os.path.getsize(path) > 0:
            on_problem('holds no record of Spindle')

    def take(self, record):
        if record.kind == LABEL:
            self.labels[record.volume] = json_of(record.payload)
            return
        backup = self.backups.get(record.backup)
        if backup is None:
            backup = self.backups[record.backup] = Backup(record.backup)
        self.count_digest(backup, record)
        if record.kind == HEADER:
            name = json_of(record.payload).get('backup')
            if isinstance(name, str) and NAME.match(name):
                backup.name = name
        elif record.kind == DATA:
            backup.ranges.add(record.offset, record.offset + len(record.payload))
            if self.on_data is not None:
                self.on_data(backup, record)
        elif record.kind == MANIFEST and record.offset < MAX_MANIFEST:
            backup.manifests.setdefault(record.part_id, {})[record.offset] = record.payload
        elif record.kind == TRAILER:
            self.take_trailer(backup, record)

    def take_trailer(self, backup, record):
        trailer = json_of(record.payload)
        counts = [trailer.get(key) for key in ('firstOffset', 'dataBytes', 'manifestBytes')]
        if not all(type(count) is int and 0 <= count <= MAX_OFFSET for count in counts):
            return
        digest = backup.digests.pop(record.part_id, None)
        is_whole = digest is not None and digest[1] == record.sequence
        if is_whole and digest[0].hexdigest() != trailer.get('digest'):
            self.problems += 1
            Notes.say(f'{backup.title()}: part {record.part} has another digest than its trailer')
        if record.flags != 1:
            return
        length = counts[0] + counts[1]
        if backup.length not in (None, length):
            raise Stop(INVALID, f'{backup.title()}: two ends that contradict each other')
        backup.length = length
        backup.finals[record.part_id] = counts[2]

    @staticmethod
    def count_digest(backup, record):
        """The digest of a part can be compared if its records were met in order, all of them."""
        if record.kind == HEADER:
            backup.digests[record.part_id] = [hashlib.sha256(), 1]
        elif record.kind in (DATA, MANIFEST):
            digest = backup.digests.get(record.part_id)
            if digest is not None and digest[1] == record.sequence:
                digest[0].update(struct.pack('<I', record.crc))
                digest[1] += 1

    def chosen(self):
        """The backups that are wanted."""
        if not self.backups:
            raise Stop(INVALID, 'no record of a backup was found')
        for name in self.wanted:
            if not any(name in (backup.name, backup.id) for backup in self.backups.values()):
                raise Stop(USAGE, f'there is no backup {name} in these files')
        return [
            backup
            for backup in self.backups.values()
            if not self.wanted or backup.name in self.wanted or backup.id in self.wanted
        ]


def report(backup):
    """What of it was found. Returns whether it is whole."""
    if backup.length is None:
        end = backup.ranges.end
        print(f'backup {backup.title()}: its end was not found; it reaches to byte {end} at least')
    else:
        state = 'complete' if backup.is_whole() else 'bytes are missing'
        print(f'backup {backup.title()}: {counted(backup.length, "byte")}, {state}')
    for offset, length in backup.holes():
        print(f'lost: offset {offset}, {counted(length, "byte")}')
    return backup.is_whole()


def report_labels(finder):
    def place(label):
        return str(label.get('set')), str(label.get('number')).rjust(5)

    for label in sorted(finder.labels.values(), key=place):
        name, number, when = (label.get(key) for key in ('label', 'number', 'labelledAt'))
        print(f'cartridge {name}: number {number} of set {label.get("set")}, labelled {when}')


def list_command(arguments):
    finder = Finder(arguments.backup)
    for path in arguments.file:
        finder.read(path)
    report_labels(finder)
    for backup in finder.chosen():
        report(backup)
    return 0


def verify_command(arguments):
    finder = Finder(arguments.backup)
    for path in arguments.file:
        finder.read(path)
    report_labels(finder)
    whole = [report(backup) for backup in finder.chosen()]
    return 0 if all(whole) and not finder.problems else DAMAGED


# --- Extracting -----------------------------------------------------------------------------------


class Extraction:
    """Writes each piece of an image where it belongs, as it comes; names the files at the end."""

    def __init__(self, directory):
        self.directory, self.files = directory, {}

    def write(self, backup, record):
        file = self.files.get(backup.id)
        if file is None:
            file = self.files[backup.id] = open(self.partial(backup), 'xb', buffering=0)
        file.seek(record.offset)
        rest = memoryview(record.payload)
        while rest:
            rest = rest[file.write(rest) :]

    def partial(self, backup):
        return os.path.join(self.directory, f'{backup.id}.partial')

    def finish(self, backup, path):
        """Makes what was written the image of the backup."""
        file = self.files.pop(backup.id, None) or open(self.partial(backup), 'xb')
        with file:
            file.truncate(backup.length if backup.length is not None else backup.ranges.end)
            os.fsync(file.fileno())
        os.rename(self.partial(backup), path)

    def drop_all(self):
        for backup_id, file in self.files.items():
            file.close()
            os.remove(os.path.join(self.directory, f'{backup_id}.partial'))
        self.files.clear()


def extract_command(arguments):
    extraction = Extraction(arguments.output)
    os.makedirs(arguments.output, exist_ok=True)
    finder = Finder(arguments.backup)

    def on_data(backup, record):
        # Before its header is met, a backup may be one of those wanted by name.
        names = (backup.name, backup.id)
        if not arguments.backup or backup.name is None or set(names) & set(arguments.backup):
            extraction.write(backup, record)

    finder.on_data = on_data
    try:
        for path in arguments.file:
            finder.read(path)
        report_labels(finder)
        chosen = finder.chosen()
        paths = output_paths(chosen, arguments.output)
        states = [
            finish(extraction, backup, paths[backup.id], arguments.skip_damage)
            for backup in chosen
        ]
    finally:
        extraction.drop_all()
    return DAMAGED if DAMAGED in states else max(states)


def output_paths(backups, directory):
    """A path for each; backups of one name are told apart by their ids."""
    names = [backup.name for backup in backups]
    paths = {}
    for backup in backups:
        is_unique = backup.name is not None and names.count(backup.name) == 1
        name = backup.name if is_unique else f'{backup.name or "backup"}-{backup.id}'
        paths[backup.id] = os.path.join(directory, f'{name}.spindle')
        if os.path.lexists(paths[backup.id]):
            raise Stop(USAGE, f'{paths[backup.id]} exists already')
    return paths


def finish(extraction, backup, path, skips):
    is_whole = report(backup)
    if not is_whole and not skips:
        Notes.say(f'{backup.title()}: not extracted (--skip-damage takes what is there)')
        return DAMAGED
    extraction.finish(backup, path)
    manifest = backup.manifest()
    if manifest is not None:
        with open(f'{path[: -len(".spindle")]}.manifest.json', 'wb') as file:
            file.write(manifest)
    print(f'made {path}')
    return 0 if is_whole else LOSSES


def parse(argv):
    text = __doc__.split('\n', 1)
    parser = argparse.ArgumentParser(
        description=text[0], epilog=text[1], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, what in (
        ('list', 'say what these files hold'),
        ('verify', 'prove every record'),
        ('extract', 'get the images back'),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument('file', nargs='+', metavar='FILE', help='a .tap file, or a dump by dd')
        command.add_argument(
            '--backup', action='append', default=[], metavar='NAME', help='only this one'
        )
        if name == 'extract':
            command.add_argument('--output', default='.', metavar='DIR', help='where images go')
            command.add_argument('--skip-damage', action='store_true', help='go around damage')
    return parser.parse_args(argv)


def main(argv):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')
    arguments = parse(argv)
    commands = {'list': list_command, 'verify': verify_command, 'extract': extract_command}
    try:
        return commands[arguments.command](arguments)
    except Stop as stop:
        Notes.say(stop)
        return stop.status
    except BrokenPipeError:
        return FAILED
    except (OSError, MemoryError) as error:
        Notes.say(error)
        return FAILED
    except KeyboardInterrupt:
        Notes.say('interrupted')
        return 130


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
