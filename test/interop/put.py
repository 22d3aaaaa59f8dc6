"""put.py URL FILE [chunked] [NAME:VALUE...]: PUT a file as a naive program does it.

Sends all of it, then reads the answer. Prints the status and the body.
"""

import http.client
import sys
import urllib.parse

url, path, *options = sys.argv[1:]
to = urllib.parse.urlsplit(url)
headers = dict(option.split(':', 1) for option in options if option != 'chunked')
connection = http.client.HTTPConnection(to.hostname, to.port, timeout=60)
with open(path, 'rb') as file:
    body = iter(lambda: file.read(65536), b'') if 'chunked' in options else file
    if 'chunked' not in options:
        headers['Content-Length'] = str(file.seek(0, 2))
        file.seek(0)
    connection.request('PUT', f'{to.path}?{to.query}', body=body, headers=headers)
    answer = connection.getresponse()
print(answer.status)
print(answer.read().decode())
