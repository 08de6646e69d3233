import * as net from "node:net";
import { describe, expect, test } from "vitest";
import { builderProblems, compareVersions, probeBuilder, unreachableProblem } from "../../components/builder/probe";
import { problemLine } from "../../components/internal/errors";
import { connection, standInBuildkits } from "../support/standInBuildkit";

const standInBuildkit = standInBuildkits();

describe("compareVersions", () => {
    test.each([
        ["0.31.0", "0.31.0", 0],
        ["v0.31.0", "0.31.0", 0],
        ["0.31", "0.31.0", 0],
        ["0.9.0", "0.31.0", -1],
        ["0.31.1", "0.31.0", 1],
        ["1.0.0", "0.99.99", 1],
        ["v0.34.2", "v0.34.10", -1],
        ["0.31.0-rc1", "0.31.0", -1],
        ["v0.32.0-rc1", "0.31.0", 1],
        ["0.31.0+a.9", "0.31.0", 0],
        ["unknown", "0.31.0", -1],
        ["", "0.0.0", 0],
    ])("%j against %j is %d", (left, right, sign) => {
        expect(compareVersions(left, right)).toBe(sign);
        expect(compareVersions(right, left)).toBe(sign === 0 ? 0 : -sign);
    });
});

describe("a daemon", () => {
    const lines = (version: string, platforms: string[], overrides = {}) =>
        builderProblems(connection(overrides), { id: "worker", version, platforms }).map(problemLine);

    test("that is native and new enough may build", () => {
        expect(lines("v0.34.2", ["linux/arm64", "linux/arm/v7"])).toEqual([]);
        expect(lines("v0.31.0", ["linux/arm64"])).toEqual([]);
    });

    test("that emulates is refused, because hours become days", () => {
        expect(lines("v0.34.2", ["linux/amd64", "linux/amd64/v2", "linux/arm64"])).toEqual([
            "builder.endpoint: tcp://10.0.0.1:1234: runs on linux/amd64 and only emulates linux/arm64, which turns hours into days; " +
                "accepted: a daemon on a linux/arm64 machine; set builder.endpoint to the GH200's own BuildKit, or builder.allowEmulation: true for a sandbox",
        ]);
    });

    test("that emulates may build for a sandbox", () => {
        expect(lines("v0.34.2", ["linux/amd64", "linux/arm64"], { allowEmulation: true })).toEqual([]);
    });

    test("of another architecture is refused, sandbox or not", () => {
        const line =
            "builder.endpoint: tcp://10.0.0.1:1234: builds linux/amd64, linux/386, not linux/arm64; " +
            "accepted: a daemon on a linux/arm64 machine; set builder.endpoint to the GH200's own BuildKit";
        expect(lines("v0.34.2", ["linux/amd64", "linux/386"])).toEqual([line]);
        expect(lines("v0.34.2", ["linux/amd64", "linux/386"], { allowEmulation: true })).toEqual([line]);
    });

    test("that is old is refused", () => {
        expect(lines("v0.30.9", ["linux/arm64"])).toEqual([
            "builder.endpoint: tcp://10.0.0.1:1234: runs BuildKit v0.30.9; accepted: 0.31.0 or newer; upgrade buildkitd on the builder",
        ]);
    });

    test("that says nothing of itself is told all that is missing at once", () => {
        expect(lines("unknown", [])).toEqual([
            "builder.endpoint: tcp://10.0.0.1:1234: runs BuildKit unknown; accepted: 0.31.0 or newer; upgrade buildkitd on the builder",
            "builder.endpoint: tcp://10.0.0.1:1234: builds nothing, not linux/arm64; accepted: a daemon on a linux/arm64 machine; " +
                "set builder.endpoint to the GH200's own BuildKit",
        ]);
    });

    test("that is old and emulates is told both", () => {
        expect(lines("v0.12.0", ["linux/amd64", "linux/arm64"]).map((line) => line.split(";")[0])).toEqual([
            "builder.endpoint: tcp://10.0.0.1:1234: runs BuildKit v0.12.0",
            "builder.endpoint: tcp://10.0.0.1:1234: runs on linux/amd64 and only emulates linux/arm64, which turns hours into days",
        ]);
    });
});

describe("the probe", () => {
    test("reads version and platforms in the daemon's order", async () => {
        const endpoint = await standInBuildkit({ version: "v0.34.2", platforms: ["linux/arm64", "linux/arm/v7"] });
        expect(await probeBuilder(connection({ endpoint }))).toEqual({ id: "worker", version: "v0.34.2", platforms: ["linux/arm64", "linux/arm/v7"] });
    });

    test("calls the version of a daemon that tells none unknown", async () => {
        const endpoint = await standInBuildkit({ version: null, platforms: [] });
        expect(await probeBuilder(connection({ endpoint }))).toEqual({ id: "worker", version: "unknown", platforms: [] });
    });

    test("gives up at an address where nothing listens, in one line", async () => {
        const endpoint = await closedPort();
        const error: unknown = await probeBuilder(connection({ endpoint })).catch((reason: unknown) => reason);
        expect(problemLine(unreachableProblem(connection({ endpoint }), error))).toMatch(
            /^builder\.endpoint: tcp:\/\/127\.0\.0\.1:\d+: no BuildKit daemon answered within 4 s: nothing listens there \(.*ECONNREFUSED.*\); accepted: a daemon that trusts builder\.clientCertificate and is signed by builder\.caCertificate; start buildkitd there, or correct builder\.endpoint$/,
        );
    });
});

describe("a daemon that did not answer", () => {
    const line = (message: unknown) => problemLine(unreachableProblem(connection(), message));

    const accepted = "; accepted: a daemon that trusts builder.clientCertificate and is signed by builder.caCertificate; ";

    test("within the deadline is called silent", () => {
        expect(line(new Error("4 DEADLINE_EXCEEDED: Deadline exceeded after 4.000s"))).toBe(
            "builder.endpoint: tcp://10.0.0.1:1234: no BuildKit daemon answered within 4 s: it did not answer in time (Deadline exceeded after 4.000s)" +
                `${accepted}start buildkitd there, open its port to this machine, or correct builder.endpoint`,
        );
    });

    test.each([
        ["self-signed certificate in certificate chain", "its certificate is signed by an authority that is not trusted", "builder.caCertificate"],
        ["unable to verify the first certificate", "its certificate is signed by an authority that is not trusted", "builder.caCertificate"],
        ["certificate has expired", "its certificate is out of date, or a clock is wrong", "clocks"],
        [
            "Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames: DNS:b",
            "its certificate is for another name",
            "builder.serverName",
        ],
        ["write EPROTO 0:error:0A00010B:SSL routines:ssl3_get_record:wrong version number", "it does not speak TLS at this port", "--tlscert"],
        ["80:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca", "it refuses the certificate that it is shown", "builderClientKey"],
        ["80:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required", "it refuses the certificate that it is shown", "builderClientKey"],
        ["0A000410:SSL routines::sslv3 alert handshake failure", "the TLS handshake failed", "builder.serverName"],
    ])("because of TLS is told which: %s", (text, wrong, mend) => {
        const told = line(new Error(`14 UNAVAILABLE: No connection established. Last error: Error: ${text}. Resolution note: `));
        expect(told).toContain(`builder.endpoint: tcp://10.0.0.1:1234: the TLS handshake failed: ${wrong} (${text})${accepted}`);
        expect(told).toContain(mend);
    });

    test.each([
        ["Name resolution failed for target dns:nowhere.example:1234", "its name has no address"],
        ["connect EHOSTUNREACH 10.0.0.1:1234", "no route leads there"],
        ["read ECONNRESET", "it closed the connection"],
    ])("because of the network is told which: %s", (text, wrong) => {
        expect(line(new Error(`14 UNAVAILABLE: ${text}`))).toContain(`no BuildKit daemon answered within 4 s: ${wrong} (${text})`);
    });

    test("because its client has no key is told which key, and shows none", () => {
        expect(line(new Error("error:1E08010C:DECODER routines::unsupported"))).toBe(
            `builder.clientCertificate: the TLS handshake failed: certificate and key cannot be used together (error:1E08010C:DECODER routines::unsupported)${accepted}` +
                "set the secret builderClientKey to the PEM text of the key of builder.clientCertificate",
        );
    });

    test("stays one line, however long gRPC's own message is", () => {
        expect(line(`a\nb ${"x".repeat(500)}`).split("\n")).toHaveLength(1);
        expect(line(`a\nb ${"x".repeat(500)}`)).toContain(`(a b ${"x".repeat(156)})`);
    });
});

/** A port that was free a moment ago. */
async function closedPort(): Promise<string> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return `tcp://127.0.0.1:${port}`;
}
