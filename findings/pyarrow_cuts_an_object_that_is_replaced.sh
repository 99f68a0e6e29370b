#!/usr/bin/env bash
# pyarrow 25.0.1, S3 (here the server of moto 5.2.5): an object that is replaced by a longer object between opening it and
# reading it is read without an error, cut to the length of the former object: neither content was ever stored. Opening
# an input file, or an input stream, asks for the length (HEAD); reading asks for that many bytes (GET with a range), of
# whatever object is there by then, though the first answer has the object's ETag. GCS's file system was not tried.
# A reader of small notes that others replace must compare ETags (`metadata()`) before and after reading.
#
# Output seen:
#   open_input_file: stored b'[]', then b'["one", "two"]'; read b'["'
#   open_input_stream: stored b'[]', then b'["one", "two"]'; read b'["'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==25.0.1 "moto[s3,server]==5.2.5"
cd "$folder"
export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
"$folder/venv/bin/python" - <<'PY'
from moto.server import ThreadedMotoServer
from pyarrow import fs

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
store = fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
store.create_dir("bucket")


def put(content):
    with store.open_output_stream("bucket/note") as file:
        file.write(content)


former, later = b"[]", b'["one", "two"]'
contents = []
for name in ("open_input_file", "open_input_stream"):
    put(former)
    with getattr(store, name)("bucket/note") as file:
        put(later)
        contents.append(file.read())
    print(f"{name}: stored {former!r}, then {later!r}; read {contents[-1]!r}")
server.stop()
raise SystemExit(contents != [later[: len(former)]] * 2)
PY
