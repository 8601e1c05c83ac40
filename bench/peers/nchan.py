"""nginx with nchan as a peer of fan-out: its configuration, and the publisher beside it.

The publisher is a process of its own, which posts as fast as it is told to (bench/publishing.py); only nginx is
measured.

    python -m bench.peers.nchan PORT TOPICS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.publishing import obey_forever, stamp

SIZE = 300
LINES = 8  # connections of the publisher

CONFIGURATION = """
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000;
pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 19000; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 3600s; nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /pub {{ nchan_publisher; nchan_channel_id $arg_id; {history} }}
    location ~ /ws/(\\d+)$ {{
      nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message newest; {history}
    }}
  }}
}}
"""
HISTORY = "nchan_message_buffer_length 1000; nchan_message_timeout 10m;"
NO_HISTORY = "nchan_message_buffer_length 1; nchan_message_timeout 1s;"


def configure(folder: Path, port: int, history: bool) -> Path:
    """The file for nginx -c."""
    path = folder / "nginx.conf"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, history=HISTORY if history else NO_HISTORY))
    return path


class Line(asyncio.Protocol):
    """One connection on which posts follow each other without waiting."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


async def run(port: int, topics: int) -> None:
    loop = asyncio.get_running_loop()
    lines = [(await loop.create_connection(Line, "127.0.0.1", port))[1] for _ in range(LINES)]

    def publish(topic: int) -> None:
        head = '{"v":1,"type":"progressed","data":{"t":"' + stamp() + '","x":"'
        body = head + "x" * (SIZE - len(head) - 3) + '"}}'
        head = f"POST /pub?id={topic} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {SIZE}"
        lines[topic % LINES].transport.write(f"{head}\r\n\r\n{body}".encode())

    await obey_forever(publish, topics)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))
