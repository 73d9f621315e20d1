class KnownPeers:
    def __init__(self, state: object):
        pass

    def check(self, c: str, f: str, pinned: str | None) -> None:
        pass

    def remember(self, c: str, f: str, service: str | None = None) -> None:
        pass

    def was_linked(self, c: str, s: str) -> bool:
        return False

    def downgraded(self, c: str, s: str) -> str:
        return ""
