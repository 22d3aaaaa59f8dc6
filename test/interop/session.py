"""The worked session by Python's standard library: session.py URL, ends with 0 if all was right.

URL is that of the daemon, such as http://127.0.0.1:8470. Nothing here knows more of the interface
than its description says.
"""

import http.client
import json
import sys
import time
import urllib.parse

TIB = 1024**4
BLOCK = 65536

daemon = urllib.parse.urlsplit(sys.argv[1])
# one connection for everything: what is left of a request would break the next one
connection = http.client.HTTPConnection(daemon.hostname, daemon.port, timeout=60)


def call(method, path, body=None, headers=None, status=200):
    """Sends bytes, an iterable of bytes (chunked) or JSON; returns JSON or bytes."""
    headers = dict(headers or {})
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers['Content-Type'] = 'application/json'
    connection.request(method, '/v1' + path, body=body, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == status, (method, path, answer.status, content[:1000])
    kind = answer.headers.get_content_type()
    if kind in ('application/json', 'application/problem+json'):
        return json.loads(content)
    return content


def refused(method, path, status, code, **asked):
    problem = call(method, path, status=status, **asked)
    assert problem['code'] == code, problem
    assert problem['status'] == status, problem
    return problem


def finished(job):
    while job['state'] not in ('succeeded', 'failed', 'cancelled'):
        job = call('GET', '/jobs/' + job['id'], headers={'Prefer': 'wait=30'})
    assert job['state'] == 'succeeded', job
    return job


content = bytes(3 * BLOCK) + bytes(range(256)) * (3 * BLOCK // 256)
content += bytes(10 * BLOCK)
length = len(content)


def disk_bytes(name):
    return call('GET', f'/disks/{name}/data?offset=0&length={length}')


disk = call('POST', '/disks', {'name': 'd1', 'capacity': '1TiB'}, status=201)
assert disk['capacityBytes'] == TIB and disk['usedBytes'] == 0, disk
call('PUT', '/disks/d1/data?offset=0', content, status=204)
assert disk_bytes('d1') == content
assert call('GET', '/disks/d1')['usedBytes'] == 3 * BLOCK

# any byte, by both spellings; a generator has no length and is sent in chunks
call('PUT', f'/disks/d1/data?offset={TIB - 5}', b'12345', status=204)
call('PUT', '/disks/d1/data?offset=1001', (bytes([n]) * 999 for n in range(1, 4)), status=204)
assert call('GET', f'/disks/d1/data?offset={TIB - 4}') == b'2345'
ranged = call('GET', '/disks/d1/data', headers={'Range': 'bytes=1999-2000'}, status=206)
assert ranged == b'\x01\x02', ranged
call('DELETE', '/disks/d1/data?offset=1001&length=2997', status=204)
call('DELETE', f'/disks/d1/data?offset={TIB - BLOCK}&length={BLOCK}', status=204)
assert disk_bytes('d1') == content

refused('GET', '/disks/none', 404, 'NOT_FOUND')
refused('GET', '/nothing', 404, 'ROUTE_NOT_FOUND')
refused('POST', '/disks', 400, 'VALIDATION_FAILED', body={'name': 'd2', 'size': 1})
refused('POST', '/disks', 409, 'NAME_TAKEN', body={'name': 'd1', 'capacity': '2TiB'})
refused('DELETE', '/disks/d1/data', 400, 'RANGE_REQUIRED')
beyond = f'/disks/d1/data?offset={TIB - 1}'
refused('PUT', beyond, 416, 'RANGE_NOT_SATISFIABLE', body=b'12')
refused('PUT', beyond, 416, 'RANGE_NOT_SATISFIABLE', body=bytes(8 << 20))
wrong = {'Content-Digest': 'sha-256=:' + 'A' * 43 + '=:'}
problem = refused('PUT', '/disks/d1/data', 400, 'DIGEST_MISMATCH', body=b'x', headers=wrong)
assert problem['writtenBytes'] == 0, problem
assert disk_bytes('d1') == content

copy = call('POST', '/disks/d1/copies', {'name': 'monday'}, status=201)
blocks = copy['usedBlocks']
assert copy['capacityBytes'] == blocks * BLOCK, copy
runs = call('GET', '/copies/monday/correspondence')['items']
assert sum(run['length'] for run in runs) == blocks, runs
image = call('GET', '/copies/monday/image')
assert len(image) == copy['imageBytes']

call('POST', '/copies/monday/restores', {'method': 'remap', 'disk': 'd0'}, status=201)
call('POST', '/targets', {'name': 'shelf', 'kind': 'directory', 'path': 'backups'}, status=201)
backup = {'name': 'b1', 'copy': 'monday', 'target': 'shelf'}
finished(call('POST', '/backups', backup, status=202))
finished(call('POST', '/backups/b1/verify', status=202))
restores = '/backups/b1/restores'
finished(call('POST', restores, {'method': 'remap', 'disk': 'd2'}, status=202))
call('PUT', '/disks/d1/data?offset=0', bytes(range(256)) * 4096, status=204)
finished(call('POST', restores, {'method': 'write-back', 'disk': 'd1'}, status=202))
pieces = (image[at : at + 100_000] for at in range(0, len(image), 100_000))
call('POST', '/restores?method=remap&disk=d3', pieces, status=201)
call('POST', '/restores?method=remap&disk=d4', image, status=201)
problem = refused(
    'POST', '/restores?method=remap&disk=d5', 400, 'IMAGE_TRUNCATED', body=image[:-1]
)
refused('GET', '/disks/d5', 404, 'NOT_FOUND')

# an upload whose connection is cut waits, and goes on from what is durable
cut = http.client.HTTPConnection(daemon.hostname, daemon.port, timeout=60)
cut.putrequest('POST', '/v1/restores?method=remap&disk=d5')
cut.putheader('Content-Length', str(len(image)))
cut.endheaders(image[: len(image) - BLOCK])
cut.close()
waiting = []
while not waiting:
    waiting = call('GET', '/jobs?kind=restore&state=waiting')['items']
    time.sleep(0.01)
at = waiting[0]['waitingFor']['receivedBytes']
goes_on = {'Content-Range': f'bytes {at}-{len(image) - 1}/{len(image)}'}
call('POST', f'/restores?job={waiting[0]["id"]}', image[at:], goes_on, status=201)

for name in ('d0', 'd1', 'd2', 'd3', 'd4', 'd5'):
    assert disk_bytes(name) == content, name
    assert call('GET', f'/disks/{name}')['usedBytes'] == blocks * BLOCK, name
assert call('GET', '/check') == {'ok': True, 'findings': []}
