import * as pulumi from "@pulumi/pulumi";
import { isLoopbackRegistry } from "../image/reference";

/** Access tokens by the host of a git address, `HOST` or `HOST:PORT`; secret. */
export type GitTokens = Record<string, string>;

/**
 * The credentials of a build's git contexts, as BuildKit asks for them: by host, out of the client's
 * session, for the fetch alone. They are in no layer, and no change of theirs rebuilds anything.
 *
 * A value with a space in it is a whole Authorization header; any other is a token, which BuildKit
 * sends as the password of Basic authentication.
 */
export function gitSecrets(tokens: pulumi.Input<GitTokens> | undefined, locations: readonly unknown[]) {
    const hosts = [...new Set(locations.flatMap(gitHost))].sort();
    if (tokens === undefined || hosts.length === 0) {
        return {};
    }
    const secrets = pulumi.secret(
        pulumi
            .output(tokens)
            .apply((known) =>
                Object.fromEntries(
                    hosts
                        .filter((host) => known[host] !== undefined)
                        .map((host) => [`${known[host]!.includes(" ") ? "GIT_AUTH_HEADER" : "GIT_AUTH_TOKEN"}.${host}`, known[host]!]),
                ),
            ),
    );
    return { secrets, ignoreSecretsInDiffCalculation: hosts.flatMap((host) => [`GIT_AUTH_HEADER.${host}`, `GIT_AUTH_TOKEN.${host}`]) };
}

/** Hosts that may be told a token: over plain http it would be everybody's on the way, so there only this machine is one. */
function gitHost(location: unknown): string[] {
    if (typeof location !== "string" || !URL.canParse(location)) {
        return [];
    }
    const { protocol, host } = new URL(location);
    return protocol === "https:" || (protocol === "http:" && isLoopbackRegistry(host)) ? [host] : [];
}
