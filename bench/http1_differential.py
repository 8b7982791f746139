#!/usr/bin/env python3
"""What do nginx and HAProxy make of each vector of HTTP/1, and what do we?

bench/http1_differential.py ENGINE > docs/http1-differential.md

Sends every input of engine/proto/tests/http1_vectors through each proxy, one connection and one recording origin for
each, and writes down what became of it. Never judges by its own reading of the standard: what should become of an
input is what its file says. Needs nginx and haproxy; everything listens on loopback, on ports of the kernel's choice.
"""

import datetime
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VECTORS = Path(__file__).resolve().parent.parent / "engine/proto/tests/http1_vectors"
# The bounds that vectors break; engine/tests/common/vectors.rs has the same.
HEAD_BYTES_MAX, FIELDS_MAX, BODY_BYTES_MAX = 8192, 50, 1 << 20
# How long a proxy may be silent before it counts as waiting. Every deadline set below is far longer.
SILENCE_SECONDS = 0.25
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# What nobody may take for a request when what stands before it is refused.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

# How binding the standard is where it demands, allows or forbids what a rule is about, in few words.
RFC_WORDS = {
    # Refused
    "bare_carriage_return": "MUST be refused or replaced by a space",
    "bare_line_feed": "MAY be taken for a line end",
    "chunk_bare_carriage_return": "against the grammar",
    "chunk_bare_line_feed": "against the grammar",
    "chunk_data_end_missing": "against the grammar",
    "chunk_extension_byte": "against the grammar",
    "chunk_extension_malformed": "against the grammar",
    "chunk_extension_too_long": "ought to be limited",
    "chunk_extensions_too_many": "ought to be limited",
    "chunk_size_invalid": "against the grammar",
    "chunk_size_overflow": "overflow MUST be prevented",
    "chunked_body_too_large": "a server can refuse it",
    "chunked_not_last": "a request MUST be answered 400 and closed",
    "chunked_repeated": "a sender MUST NOT",
    "connection_names_too_many": "a bound of our own",
    "empty_lines_too_many": "one at least SHOULD be ignored; the bound is our own",
    "expectation_unknown": "MAY be answered 417",
    "field_colon_missing": "SHOULD be answered 400",
    "field_folded": "MUST be refused or unfolded",
    "field_leading_space": "MUST be refused or left out",
    "field_name_byte": "against the grammar",
    "field_name_empty": "against the grammar",
    "field_space_before_colon": "a request MUST be answered 400; in a reply it MUST be removed",
    "field_value_byte": "NUL MUST be refused or replaced; other control bytes MAY be kept",
    "fields_too_many": "MUST be answered 4xx beyond what a server wishes to process",
    "framing_lookalike": "another field to HTTP; a rule of our own",
    "head_too_large": "MUST be answered 4xx beyond what a server wishes to process",
    "host_differs": "the target's authority MUST win; we refuse instead",
    "host_invalid": "MUST be answered 400",
    "host_missing": "MUST be answered 400",
    "host_repeated": "MUST be answered 400",
    "length_invalid": "MUST be answered 400 or 502 and closed",
    "length_overflow": "overflow MUST be prevented",
    "length_repeated": "MUST be refused, or made one if all are the same",
    "length_with_transfer_encoding": "MAY be refused; else MUST be closed after the answer",
    "max_forwards_invalid": "against the grammar",
    "method_invalid": "SHOULD be answered 400",
    "method_too_long": "SHOULD be answered 501",
    "reason_byte": "against the grammar",
    "request_line_malformed": "SHOULD be answered 400",
    "response_version_invalid": "against the grammar",
    "status_invalid": "SHOULD be taken for 5xx",
    "status_line_malformed": "against the grammar",
    "target_asterisk_without_options": "against the grammar",
    "target_authority_invalid": "an empty host MUST be refused; user information SHOULD be",
    "target_byte": "SHOULD be answered 400",
    "target_form_unknown": "SHOULD be answered 400",
    "target_not_authority": "against the grammar",
    "target_scheme_unsecured": "MUST be rejected",
    "target_scheme_unsupported": "a gateway's own matter",
    "target_too_long": "MUST be answered 414 beyond what a server wishes to parse",
    "trailer_folded": "MUST be refused or unfolded",
    "trailer_forbidden": "MUST NOT be sent, nor merged",
    "trailer_name_byte": "against the grammar",
    "trailer_name_empty": "against the grammar",
    "trailer_value_byte": "NUL MUST be refused or replaced; other control bytes MAY be kept",
    "trailers_too_large": "a bound of our own",
    "trailers_too_many": "a bound of our own",
    "transfer_coding_unsupported": "SHOULD be answered 501",
    "transfer_encoding_in_http10": "framing MUST be taken for faulty; MUST be closed after",
    "transfer_encoding_invalid": "against the grammar",
    "version_invalid": "against the grammar",
    "version_unsupported": "can be answered 505",
    # Incomplete
    "request": "MAY be answered before it is closed",
    "reply": "MUST be marked incomplete",
    # Accepted
    "chunks": "MUST be understood",
    "content_length": "MUST be understood",
    "expect": "MUST be answered or forwarded",
    "field_lines": "MUST be understood",
    "hop_by_hop": "MUST be removed",
    "interim_replies": "MUST be forwarded",
    "max_forwards": "MUST be updated",
    "methods": "case-sensitive tokens",
    "reply_fields": "MUST be removed, Via MUST be added",
    "reply_lengths": "MUST be understood",
    "reply_status_lines": "a space MUST precede even an empty reason; clients ought to be lenient",
    "reply_without_body": "MUST NOT have one",
    "target_and_host": "the absolute form MUST be understood, and its authority MUST win",
    "trailers": "MAY be forwarded",
    "transfer_encoding": "chunked MUST be understood",
    "unasked_replies": "MUST NOT be taken for an answer",
    "versions": "later minor versions SHOULD be understood",
}


def unescape(text):
    """The bytes that a text of a vector stands for; the table's README says how."""
    escapes = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}

    def until(at, end):
        out = bytearray()
        while at < len(text):
            char = text[at]
            at += 1
            if char == end:
                return bytes(out), at
            if char == "\n":
                continue
            if char != "\\":
                out += char.encode()
                continue
            kind = text[at]
            at += 1
            if kind == "x":
                out.append(int(text[at : at + 2], 16))
                at += 2
            elif kind == "(":
                star = text.index("*", at)
                part, after = until(star + 1, ")")
                out += part * int(text[at:star])
                at = after
            else:
                out += escapes[kind]
        return bytes(out), at

    return until(0, None)[0]


def tables():
    for verdict in ("refused", "accepted", "incomplete"):
        for path in sorted((VECTORS / verdict).glob("*.toml")):
            yield verdict, tomllib.loads(path.read_text())


class Origin:
    """Records every byte, answers every request that its framing ends, or gives the reply it was told to give."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.forget()
        threading.Thread(target=self.accept, daemon=True).start()

    def forget(self, reply=None, ends=False):
        with self.lock:
            self.targets, self.reply, self.ends = [], reply, ends

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        unread = b""
        try:
            with connection:
                while True:
                    request = take_request(unread)
                    if request is None:
                        received = connection.recv(65536)
                        if not received:
                            return
                        unread += received
                        continue
                    target, unread = request
                    with self.lock:
                        self.targets.append(target)
                        reply, ends = (self.reply, self.ends) if b"/vector" in target else (None, False)
                    connection.sendall(OK if reply is None else reply)
                    if ends:
                        return
        except OSError:
            pass


def take_request(unread):
    """The target of the complete request at the start of `unread` and what follows it, or None.

    As lenient as the laxest server: what a proxy lets through counts as passed, whatever it looks like.
    """
    head, separator, rest = unread.partition(b"\r\n\r\n")
    if not separator:
        return None
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    values = {name.strip().lower(): value.strip().lower() for name, _, value in fields}
    words = head.split(b"\r\n")[0].split(b" ")
    target = words[1] if len(words) > 1 else words[0]
    if b"chunked" in values.get(b"transfer-encoding", b""):
        end = re.search(rb"(?:\A|\r\n)0+[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n", rest)
        return (target, rest[end.end() :]) if end else None
    length = values.get(b"content-length", b"0")
    length = int(length) if length.isdigit() else 0
    return (target, rest[length:]) if len(rest) >= length else None


class Proxy:
    def __init__(self, name, version, command, port):
        self.name, self.version, self.port = name, version, port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self):
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{self.name} does not listen")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def version_of(command, pattern):
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.search(pattern, done.stdout + done.stderr)[1]


def start_engine(program, directory, origin):
    port = free_port()
    config = Path(directory, "engine.toml")
    limits = f'head_bytes = "{HEAD_BYTES_MAX}B", fields = {FIELDS_MAX}'
    config.write_text(
        f'[listener.web]\nbind = "127.0.0.1:{port}"\n'
        f'limits = {{ {limits}, target_bytes = "{HEAD_BYTES_MAX}B", body_bytes = "{BODY_BYTES_MAX}B" }}\n'
        f'[channel.all]\nupstream = "app"\n[upstream.app]\nendpoints = ["127.0.0.1:{origin.port}"]\n'
        f"limits = {{ {limits} }}\n[admin]\nenabled = false\n"
    )
    version = version_of([program, "--version"], r"(\S+)\s*$")
    return Proxy("Corelane", version, [program, "--cores", "1", "--config", str(config)], port)


def start_nginx(directory, origin):
    port = free_port()
    config = Path(directory, "nginx.conf")
    config.write_text(
        f"daemon off; master_process off; error_log /dev/null; pid {directory}/nginx.pid;\n"
        "events {}\nhttp {\naccess_log off;\n"
        + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"large_client_header_buffers 4 {HEAD_BYTES_MAX}; client_max_body_size {BODY_BYTES_MAX};\n"
        f"upstream app {{ server 127.0.0.1:{origin.port} max_fails=0; keepalive 8; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app; proxy_http_version 1.1;\n"
        'proxy_set_header Connection ""; proxy_request_buffering off; proxy_buffering off; } } }\n'
    )
    return Proxy("nginx", version_of(["nginx", "-v"], r"nginx/(\S+)"), ["nginx", "-e", "/dev/null", "-c", str(config)], port)


def start_haproxy(directory, origin):
    port = free_port()
    config = Path(directory, "haproxy.cfg")
    config.write_text(
        f"global\n maxconn 1000\n nbthread 1\n tune.http.maxhdr {FIELDS_MAX}\n"
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n option http-keep-alive\n"
        f"frontend web\n bind 127.0.0.1:{port}\n default_backend app\n"
        f"backend app\n http-reuse always\n server a 127.0.0.1:{origin.port}\n"
    )
    return Proxy("HAProxy", version_of(["haproxy", "-v"], r"version (\d[\w.]*)"), ["haproxy", "-f", str(config)], port)


def talk(port, message, ends):
    """Sends a message; everything that comes back until silence, and whether the connection is closed then."""
    answer, is_closed = b"", False
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.sendall(message)
            if ends:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        while select.select([client], [], [], SILENCE_SECONDS)[0]:
            try:
                received = client.recv(65536)
            except OSError:
                received = b""
            if not received:
                is_closed = True
                break
            answer += received
    return answer, is_closed


def statuses(answer, method):
    """Statuses of complete and incomplete answers in a row; the last is marked where it is cut short."""
    found = []
    while answer:
        head, separator, rest = answer.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.\d (\d{3})", head)
        if not separator or not status:
            return found + ["no HTTP"]
        status = int(status[1])
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        is_chunked = re.search(rb"(?im)^transfer-encoding: *chunked", head)
        is_empty = status < 200 or status in (204, 304) or method == b"HEAD"
        if is_empty:
            answer, is_whole = rest, True
        elif is_chunked:
            end = re.search(rb"(?:\A|\r\n)0+\r\n(?:[^\r\n]+\r\n)*\r\n", rest)
            answer, is_whole = (rest[end.end() :], True) if end else (b"", False)
        elif length:
            answer, is_whole = rest[int(length[1]) :], len(rest) >= int(length[1])
        else:
            answer, is_whole = b"", True
        found.append(f"{status}" if is_whole else f"{status} cut short")
        if status >= 200:
            method = b"GET"
    return found


def outcome(proxy, origin, vector):
    """What a proxy makes of a vector, in a few words, and whether anything of it was passed on whole."""
    is_reply = vector["side"] == "reply"
    message = unescape(vector["input"])
    if is_reply:
        origin.forget(message, vector.get("ends", False))
        request = unescape(vector.get("request", r"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        sent, ends = request.replace(b" / ", b" /vector ", 1), False
    else:
        origin.forget()
        # Behind what is refused, the end of a chunked body and of any head.
        sent = message + SMUGGLED if vector["verdict"] == "refused" else message
        request, ends = message, vector["verdict"] == "incomplete"
    answer, is_closed = talk(proxy.port, sent, ends)
    with origin.lock:
        passed = list(origin.targets)
    words = statuses(answer, request.split(b" ")[0])
    if not is_reply:
        if any(b"smuggled" in target for target in passed):
            words.append("**next request passed**" if len(passed) > 1 else "**smuggled**")
        elif passed:
            words.append("passed" if len(passed) == 1 else f"{len(passed)} passed")
    if not words:
        words.append("closed" if is_closed else "waits")
    elif is_closed:
        words.append("closed")
    return ", ".join(words), passed


def table_rows(proxies):
    for verdict, table in tables():
        for vector in table["vector"]:
            vector = {"side": table["side"], **vector, "verdict": verdict}
            with ThreadPoolExecutor() as pool:
                found = list(pool.map(lambda proxy: outcome(*proxy, vector), proxies))
            yield table, vector, found


def is_let_through(vector, words, passed):
    """Whether something that must not go on did, seen from outside."""
    if vector["verdict"] == "accepted":
        return False
    if vector["side"] == "request":
        return bool(passed)
    return bool(re.match(r"(1\d\d, )*[23]\d\d(?! cut)", words))


def cell(text):
    return text.replace("|", "\\|")


def report(proxies, rows):
    names = [proxy.name for proxy, _ in proxies]
    columns = [f"{proxy.name} {proxy.version}" for proxy, _ in proxies]
    rows = list(rows)
    today = os.environ.get("CORELANE_DATE") or datetime.date.today().isoformat()
    print(f"""# What others make of each vector

<!-- Generated. To rewrite: bench/http1_differential.py ENGINE > docs/http1-differential.md -->

Every input of the [vectors](../engine/proto/tests/http1_vectors/README.md), sent on {today} to {", ".join(columns)},
each a reverse proxy before an origin that answers whatever reaches it. nginx and HAProxy run as packaged, streaming, with
keep-alive on both sides and limits as in the vectors where they have them. Behind each request that is to be refused
stands another one, `/smuggled`.

A cell says which statuses came back, what was passed on, and whether the connection was closed. *Waits* means that nothing came
within {SILENCE_SECONDS} s. *Next request passed* means that the refused request went on and the one behind it was read as a request of its
own; *smuggled*, that only the one behind it was. For a reply, a proxy that passes on what is to be refused shows its status.

That something is let through here does not make a hole by itself: a proxy may have made it harmless on its way, and some
rules are bounds of our own. Each heading says how binding the standard is.
""")
    print("## In numbers\n")
    print("| what is to be refused, or ends early | inputs | " + " | ".join(f"{name} lets through" for name in names) + " |")
    print("|---|---:|" + "---:|" * len(names))
    for side, title in (("request", "requests"), ("reply", "replies")):
        judged = [(vector, found) for _, vector, found in rows if vector["side"] == side and vector["verdict"] != "accepted"]
        counts = [sum(is_let_through(vector, *found[index]) for vector, found in judged) for index in range(len(names))]
        print(f"| {title} | {len(judged)} | " + " | ".join(map(str, counts)) + " |")
    for verdict, title in (("refused", "To be refused"), ("incomplete", "Ends too early"), ("accepted", "To be understood")):
        print(f"\n## {title}")
        rule = None
        for table, vector, found in rows:
            if vector["verdict"] != verdict:
                continue
            if table["rule"] != rule:
                rule = table["rule"]
                print(f"\n### {rule}\n\n{table['rfc']}: {RFC_WORDS[rule]}. {table['why']}\n")
                print("| vector | " + " | ".join(names) + " |")
                print("|---|" + "---|" * len(names))
            name = vector["name"] if vector["side"] == table["side"] else f"{vector['name']} ({vector['side']})"
            print(f"| {cell(name)} | " + " | ".join(cell(words) for words, _ in found) + " |")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    proxies = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            for start in (lambda *a: start_engine(sys.argv[1], *a), start_nginx, start_haproxy):
                origin = Origin()
                proxies.append((start(directory, origin), origin))
            for proxy, _ in proxies:
                proxy.wait()
            report(proxies, table_rows(proxies))
        finally:
            for proxy, _ in proxies:
                proxy.process.terminate()
                proxy.process.wait()


if __name__ == "__main__":
    main()
