import type { Problem } from "../internal/errors";

/** What is declared of a builder, before anybody has asked it. */
export interface DeclaredBuilder {
    /** `tcp://HOST:PORT`; empty where it is not set yet. */
    endpoint: string;
    /** Whether the connection is encrypted: a CA is given. */
    encrypted: boolean;
    allowEmulation: boolean;
}

/** Only this machine can reach it, as in the sandbox. */
export function isLoopbackEndpoint(endpoint: string): boolean {
    return /^tcp:\/\/(localhost|127(\.\d+){3}|\[::1\]):\d+$/.test(endpoint);
}

/** Why a builder on another machine may not be used as it is declared. */
export function declaredBuilderProblems(path: string, builder: DeclaredBuilder): Problem[] {
    if (builder.endpoint === "" || isLoopbackEndpoint(builder.endpoint)) {
        return [];
    }
    const problems: Problem[] = [];
    if (!builder.encrypted) {
        problems.push({
            path: `${path}.caCertificate`,
            wrong: `is unset, so that the connection to ${builder.endpoint} is neither encrypted nor authenticated`,
            accepted: "PEM text of the CA that signed the daemon's certificate",
            fix: `set ${path}.caCertificate`,
        });
    }
    if (builder.allowEmulation) {
        problems.push({
            path: `${path}.allowEmulation`,
            value: true,
            wrong: `lets ${builder.endpoint} emulate arm64, which turns hours into days`,
            accepted: "true only for a builder on this machine, as the sandbox's",
            fix: `remove ${path}.allowEmulation`,
        });
    }
    return problems;
}
