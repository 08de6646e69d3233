import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { connectionFault, Fault } from "../../components/internal/connectionFault";

const sha = (hex: string) => `sha256:${hex.repeat(32).slice(0, 64)}`;
const pulling = (why: string, host = "registry.example:5000") =>
    `Failed to pull image "${host}/vllm/x@${sha("ab")}": failed to pull and unpack image "${host}/vllm/x@${sha("ab")}": failed to resolve reference "${host}/vllm/x@${sha("ab")}": ${why}`;
const head = (why: string) => pulling(`failed to do request: Head "https://registry.example:5000/v2/vllm/x/manifests/${sha("ab")}": ${why}`);

/* Words of Go's crypto/x509, crypto/tls and net, of containerd's remotes/docker, of BuildKit, Node, OpenSSL, git and curl. */
describe("a fault is told apart", () => {
    test.each<[Fault, string, string]>([
        // cnoe-io/idpbuilder#520
        [
            Fault.Authority,
            "registry.k8s.io",
            'Failed to pull image "registry.k8s.io/coredns/coredns:v1.11.1": failed to do request: Head "https://registry.k8s.io/v2/coredns/coredns/manifests/v1.11.1": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        ],
        [
            Fault.Expired,
            "registry.example:5000",
            head(
                "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-12-01T00:00:00Z is after 2025-01-01T00:00:00Z",
            ),
        ],
        [Fault.WrongName, "registry.example:5000", head("tls: failed to verify certificate: x509: certificate is valid for localhost, not registry.example")],
        [Fault.WrongName, "registry.example:5000", head("x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs")],
        [Fault.PlainText, "registry.example:5000", head("http: server gave HTTP response to HTTPS client")],
        [Fault.ClientCertificate, "registry.example:5000", head("remote error: tls: certificate required")],
        [Fault.NoName, "registry.example:5000", head("dial tcp: lookup registry.example on 10.96.0.10:53: no such host")],
        [Fault.NoName, "registry.example:5000", head("dial tcp: lookup registry.example on 10.96.0.10:53: read udp 10.0.0.2:4444->10.96.0.10:53: i/o timeout")],
        [Fault.Refused, "registry.example:5000", head("dial tcp 10.0.0.1:5000: connect: connection refused")],
        [Fault.NoRoute, "registry.example:5000", head("dial tcp 10.0.0.1:5000: connect: no route to host")],
        [Fault.Timeout, "registry.example:5000", head("dial tcp 10.0.0.1:5000: i/o timeout")],
        [Fault.Timeout, "registry.example:5000", head("net/http: TLS handshake timeout")],
        [Fault.Closed, "registry.example:5000", head("EOF")],
        [Fault.Closed, "registry.example:5000", head("read tcp 10.0.0.2:4444->10.0.0.1:5000: read: connection reset by peer")],
        [
            Fault.Server,
            "registry.example:5000",
            pulling(`unexpected status from HEAD request to https://registry.example:5000/v2/vllm/x/manifests/${sha("ab")}: 502 Bad Gateway`),
        ],
        [Fault.Server, "registry.example:5000", pulling("unexpected status from GET request to https://registry.example:5000/v2/: 503 Service Unavailable")],
        [
            Fault.RateLimited,
            "registry-1.docker.io",
            pulling(
                "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/x/manifests/1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit",
            ),
        ],
        [
            Fault.Credentials,
            "registry.example:5000",
            pulling(
                "failed to authorize: failed to fetch oauth token: unexpected status from POST request to https://registry.example:5000/token: 401 Unauthorized",
            ),
        ],
        [
            Fault.Credentials,
            "",
            pulling("pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
        ],
        [
            Fault.Credentials,
            "registry.example:5000",
            pulling("unexpected status from HEAD request to https://registry.example:5000/v2/x/manifests/1: 403 Forbidden"),
        ],
        [
            Fault.Authority,
            "auth.example",
            pulling(
                'failed to authorize: failed to fetch anonymous token: Get "https://auth.example/token?scope=x": tls: failed to verify certificate: x509: certificate signed by unknown authority',
            ),
        ],
        [Fault.Missing, "", pulling("not found")],
        [Fault.Missing, "", "manifest unknown: manifest unknown"],
        [Fault.Platform, "", pulling("no match for platform in manifest: not found")],
        [Fault.NoSpace, "", pulling("failed to copy: write /var/lib/containerd/io.containerd.content.v1.content/ingest/1/data: no space left on device")],
        // A push, as BuildKit says it.
        [
            Fault.Credentials,
            "",
            "ERROR: failed to push registry.example/vllm/x: push access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials",
        ],
        [
            Fault.Server,
            "registry.example",
            "failed to push registry.example/x: unexpected status from PUT request to https://registry.example/v2/x/blobs/uploads/1: 500 Internal Server Error",
        ],
        // Node and OpenSSL.
        [Fault.Authority, "", "unable to verify the first certificate"],
        [Fault.Authority, "", "self-signed certificate in certificate chain"],
        [Fault.Expired, "", "certificate has expired"],
        [Fault.WrongName, "", "Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames: DNS:b"],
        [
            Fault.PlainText,
            "",
            "write EPROTO 0:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/openssl/ssl/record/ssl3_record.c:354:",
        ],
        [
            Fault.ClientCertificate,
            "",
            "80:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../deps/openssl/ssl/record/rec_layer_s3.c:1605:SSL alert number 48",
        ],
        [Fault.NoName, "nowhere.example", "getaddrinfo ENOTFOUND nowhere.example"],
        [Fault.Refused, "127.0.0.1:5000", "connect ECONNREFUSED 127.0.0.1:5000"],
        // git and curl.
        [Fault.NoName, "sweetapi.example", "fatal: unable to access 'https://sweetapi.example/a/b.git/': Could not resolve host: sweetapi.example"],
        [Fault.Credentials, "git.example", "fatal: could not read Username for 'https://git.example': terminal prompts disabled"],
        [Fault.Server, "git.example", "fatal: unable to access 'https://git.example/a.git/': The requested URL returned error: 503"],
    ])("%s at %j: %s", (fault, host, text) => {
        expect(connectionFault(text)).toMatchObject({ fault, host });
    });
});

describe("a number or a word in a name is no status", () => {
    test.each([
        `failed size validation: 40300 != 40100: failed precondition`,
        `failed to verify layer ${sha("403")}: digest mismatch`,
        `unexpected status of blob ${sha("401")}`,
        `unexpected status from HEAD request to https://registry403.example/v2/denied/unauthorized/manifests/${sha("403")}: wrong digest`,
        `image registry.example/access-denied/credential-helper:401 has 403 layers`,
        "unpacking 503 files of 404 bytes",
    ])("%s", (text) => {
        expect(connectionFault(text)).toBeUndefined();
    });

    test("whatever the digest, port and path are", () => {
        const hex = fc.stringMatching(/^(401|403|404|429|503)[0-9a-f]{61}$/);
        const name = fc.constantFrom("denied", "unauthorized", "x509", "timeout", "forbidden", "not-found");
        fc.assert(
            fc.property(hex, name, fc.constantFrom(401, 403, 404, 429, 503, 4011), (digest, word, port) => {
                const image = `registry.example:${port}/${word}/${word}@sha256:${digest}`;
                expect(
                    connectionFault(`Failed to pull image "${image}": failed to extract layer sha256:${digest}: exit status 1: unpigz: corrupted`),
                ).toBeUndefined();
                expect(connectionFault(`Failed to pull image "${image}": x509: certificate signed by unknown authority`)?.fault).toBe(Fault.Authority);
            }),
        );
    });
});

test("a server's own status is said", () => {
    expect(connectionFault("unexpected status from HEAD request to https://a.example/v2/: 502 Bad Gateway")).toEqual({
        fault: Fault.Server,
        host: "a.example",
        wrong: "it answers 502 Bad Gateway",
        reason: "unexpected status from HEAD request to https://a.example/v2/: 502 Bad Gateway",
    });
});
