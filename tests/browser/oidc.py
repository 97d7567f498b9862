"""A provider of logins (OpenID Connect, authorization code flow) that asks nobody anything.

Real in all that a client checks: discovery, PKCE, client secret, nonce, RS256 signature, JWKS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "fusionlens", "shared-with-the-provider"


class Provider:
    """Logs in `account`, a set of claims, whoever asks. `age_seconds`: how old a login is."""

    def __init__(self) -> None:
        self.account: dict[str, Any] = {}
        self.age_seconds = 0
        self.key = RSAKey.generate_key(2048, {"kid": "test"}, private=True)
        self.codes: dict[str, dict[str, str]] = {}
        self.logouts: list[dict[str, str]] = []
        provider = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.provider = provider
                super().__init__(*args)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def metadata_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def id_token(self, nonce: str) -> str:
        now = int(time.time()) - self.age_seconds
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": int(time.time()) + 600,
            "nonce": nonce,
            **self.account,
        }
        return jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(asked.query).items()}
        if asked.path == "/.well-known/openid-configuration":
            self._json(self._discovery())
        elif asked.path == "/jwks":
            self._json({"keys": [self.provider.key.as_dict(private=False)]})
        elif asked.path == "/authorize" and query["client_id"] == CLIENT:
            code = secrets.token_urlsafe(16)
            self.provider.codes[code] = query
            self._go(
                f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            )
        elif asked.path == "/logout":
            self.provider.logouts.append(query)
            self._go(query["post_logout_redirect_uri"])
        else:
            self._json({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {k: v[0] for k, v in parse_qs(body).items()}
        asked = self.provider.codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if asked is None or self.headers.get("Authorization") != f"Basic {basic}":
            self._json({"error": "invalid_client"}, 401)
            return
        told = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(told).decode().rstrip("=")
        if (
            challenge != asked.get("code_challenge")
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            self._json({"error": "invalid_grant"}, 400)
            return
        self._json(
            {
                "access_token": secrets.token_urlsafe(16),
                "token_type": "Bearer",
                "expires_in": 600,
                "id_token": self.provider.id_token(asked["nonce"]),
            }
        )

    def _discovery(self) -> dict[str, Any]:
        issuer = self.provider.issuer
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "end_session_endpoint": f"{issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _go(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def _json(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
