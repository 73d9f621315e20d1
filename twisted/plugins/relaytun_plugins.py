"""The twistd plugins: C{twistd relaytun-server} and C{twistd relaytun-client}."""

from twisted.application.service import ServiceMaker

server = ServiceMaker(
    "relaytun-server",
    "relaytun.server.tap",
    "The public side of relaytun: introduces clients and relays their bytes.",
    "relaytun-server",
)

client = ServiceMaker(
    "relaytun-client",
    "relaytun.client.tap",
    "The private side of relaytun: offers services and connects to those of others.",
    "relaytun-client",
)
