import { coerce, compare } from "semver";
import { connectionFault, Fault } from "../internal/connectionFault";
import type { Problem } from "../internal/errors";
import type { BuilderDaemon } from "./connection";
import { answerTimeoutMs, type ListWorkersResponse, withControl } from "./control";

/** What a BuildKit daemon says of itself. */
export interface BuilderFacts {
    /** Of the worker; it stays for as long as the daemon's own folder does. */
    id: string;
    version: string;
    /** In the daemon's own order: a daemon lists the platform it runs on before those it emulates. */
    platforms: string[];
}

/** Asks the daemon for its version and platforms. Rejects with a sentence, never with a stack of gRPC. */
export function probeBuilder(connection: BuilderDaemon): Promise<BuilderFacts> {
    return withControl(connection, async (client) => {
        const response = await new Promise<ListWorkersResponse>((resolve, reject) => {
            const deadline = new Date(Date.now() + answerTimeoutMs);
            client.ListWorkers({}, { deadline }, (error, value) => (error ? reject(error) : resolve(value)));
        });
        const worker = response.record[0];
        return {
            id: worker?.ID ?? "",
            version: worker?.BuildkitVersion?.version ?? "unknown",
            platforms: (worker?.platforms ?? []).map((p) => [p.OS, p.Architecture, p.Variant].filter(Boolean).join("/")),
        };
    });
}

/** Why this daemon may not build for us; empty when it may. */
export function builderProblems(connection: BuilderDaemon, facts: BuilderFacts): Problem[] {
    const path = "builder.endpoint";
    const value = connection.endpoint;
    const problems: Problem[] = [];
    if (compareVersions(facts.version, connection.minBuildkitVersion) < 0) {
        problems.push({
            path,
            value,
            wrong: `runs BuildKit ${facts.version}`,
            accepted: `${connection.minBuildkitVersion} or newer`,
            fix: "upgrade buildkitd on the builder",
        });
    }
    if (!facts.platforms.includes(connection.platform)) {
        problems.push({
            path,
            value,
            wrong: `builds ${facts.platforms.join(", ") || "nothing"}, not ${connection.platform}`,
            accepted: `a daemon on a ${connection.platform} machine`,
            fix: "set builder.endpoint to the GH200's own BuildKit",
        });
    } else if (facts.platforms[0] !== connection.platform && !connection.allowEmulation) {
        problems.push({
            path,
            value,
            wrong: `runs on ${facts.platforms[0]} and only emulates ${connection.platform}, which turns hours into days`,
            accepted: `a daemon on a ${connection.platform} machine`,
            fix: "set builder.endpoint to the GH200's own BuildKit, or builder.allowEmulation: true for a sandbox",
        });
    }
    return problems;
}

/** The one line for a daemon that did not answer the question. */
export function unreachableProblem(connection: BuilderDaemon, error: unknown): Problem {
    const text = reason(error instanceof Error ? error.message : String(error));
    const shared = {
        path: "builder.endpoint",
        value: connection.endpoint,
        accepted: "a daemon that trusts builder.clientCertificate and is signed by builder.caCertificate",
    };
    // OpenSSL, on a certificate or key that is empty, cut short or of another pair.
    if (/DECODER routines|PEM routines|key values mismatch|bad decrypt|no start line/i.test(text)) {
        return {
            ...shared,
            path: "builder.clientCertificate",
            value: undefined,
            wrong: `the TLS handshake failed: certificate and key cannot be used together (${text})`,
            fix: "set the secret builderClientKey to the PEM text of the key of builder.clientCertificate",
        };
    }
    const fault = connectionFault(text);
    const words = fault === undefined ? `(${text})` : `${fault.wrong} (${text})`;
    const kind = fault?.fault ?? Fault.Timeout;
    return {
        ...shared,
        wrong: handshakeFaults.includes(kind)
            ? `the TLS handshake failed: ${words}`
            : `no BuildKit daemon answered within ${answerTimeoutMs / 1000} s: ${words}`,
        fix: mends[kind] ?? mends[Fault.Refused]!,
    };
}

const handshakeFaults: Fault[] = [Fault.Authority, Fault.Expired, Fault.WrongName, Fault.ClientCertificate, Fault.PlainText, Fault.Tls];

const mends: Partial<Record<Fault, string>> = {
    [Fault.Authority]: "set builder.caCertificate to the authority that signed the daemon's certificate",
    [Fault.Expired]: "renew the daemon's certificate, and look at the clocks of both",
    [Fault.WrongName]: "set builder.serverName to a name that the daemon's certificate has",
    [Fault.ClientCertificate]: "set builder.clientCertificate and the secret builderClientKey to a pair that the daemon's authority signed",
    [Fault.PlainText]: "start buildkitd with --tlscert, --tlskey and --tlscacert, or correct builder.endpoint",
    [Fault.Tls]: "check builder.caCertificate, builder.clientCertificate, builder.serverName and the builderClientKey secret",
    [Fault.NoName]: "correct builder.endpoint, or the DNS of this machine",
    [Fault.Refused]: "start buildkitd there, or correct builder.endpoint",
    [Fault.NoRoute]: "open the way from this machine, or correct builder.endpoint",
    [Fault.Timeout]: "start buildkitd there, open its port to this machine, or correct builder.endpoint",
    [Fault.Closed]: "set builder.caCertificate where the daemon wants TLS, or correct builder.endpoint",
};

/** By SemVer, with an optional leading `v` and missing numbers as 0: a release candidate is older than its release. Text that is no version is the oldest. */
export function compareVersions(left: string, right: string): number {
    const parsed = (version: string) => coerce(version, { includePrerelease: true }) ?? "0.0.0";
    return compare(parsed(left), parsed(right));
}

function reason(text: string): string {
    // gRPC wraps the cause in «14 UNAVAILABLE: No connection established. Last error: Error: CAUSE. Resolution note: ».
    return text
        .replace(/^\d+ [A-Z_]+: /, "")
        .replace(/^.*Last error: (Error: )?/, "")
        .replace(/\.? *Resolution note:.*$/, "")
        .replace(/\s+/g, " ")
        .slice(0, 160);
}
