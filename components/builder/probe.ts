import type { Problem } from "../internal/errors";
import type { BuilderConnection } from "./connection";
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
export function probeBuilder(connection: BuilderConnection): Promise<BuilderFacts> {
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
export function builderProblems(connection: BuilderConnection, facts: BuilderFacts): Problem[] {
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
export function unreachableProblem(connection: BuilderConnection, error: unknown): Problem {
    const text = error instanceof Error ? error.message : String(error);
    const untrusted = /certificate|self.signed|issuer|altnames|tls|ssl|handshake/i.test(text);
    return {
        path: "builder.endpoint",
        value: connection.endpoint,
        wrong: untrusted ? `the TLS handshake failed (${reason(text)})` : `no BuildKit daemon answered within ${answerTimeoutMs / 1000} s (${reason(text)})`,
        accepted: "a daemon that trusts builder.clientCertificate and is signed by builder.caCertificate",
        fix: untrusted
            ? "check builder.caCertificate, builder.clientCertificate, builder.serverName and the builderClientKey secret"
            : "start buildkitd there, or correct builder.endpoint",
    };
}

/** Compares dotted versions with an optional leading `v`; a pre-release counts as its release. */
export function compareVersions(left: string, right: string): number {
    const parse = (version: string) => (version.match(/\d+/g) ?? []).slice(0, 3).map(Number);
    const [a, b] = [parse(left), parse(right)];
    for (let i = 0; i < 3; i += 1) {
        const difference = (a[i] ?? 0) - (b[i] ?? 0);
        if (difference !== 0) {
            return Math.sign(difference);
        }
    }
    return 0;
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
