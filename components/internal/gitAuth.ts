import * as pulumi from "@pulumi/pulumi";
import { isLoopbackRegistry } from "../image/reference";
import { mapInput } from "./mapInput";

/** Access tokens by the host of a git address, `HOST` or `HOST:PORT`; secret. */
export type GitTokens = Record<string, string>;

/**
 * The credentials of a build's git contexts, as BuildKit asks for them: by host, out of the client's
 * session, for the fetch alone. They are in no layer, and no change of theirs rebuilds anything.
 *
 * A value with a space in it is a whole Authorization header; any other is a token, which BuildKit
 * sends as the password of Basic authentication.
 */
export function gitSecrets(tokens: pulumi.Input<GitTokens> | undefined, locations: readonly pulumi.Input<string>[]) {
    if (tokens === undefined) {
        return {};
    }
    const hosts = mapInput(locations as pulumi.Input<string[]>, (known) => [...new Set(known.flatMap(gitHost))].sort());
    return Array.isArray(hosts) && hosts.length === 0
        ? {}
        : {
              secrets: pulumi.secret(pulumi.all([tokens, hosts]).apply(([known, asked]) => secretsOf(known, asked))),
              ignoreSecretsInDiffCalculation: mapInput(hosts, (asked) => asked.flatMap((host) => [`GIT_AUTH_HEADER.${host}`, `GIT_AUTH_TOKEN.${host}`])),
          };
}

function secretsOf(tokens: GitTokens, hosts: readonly string[]): Record<string, string> {
    return Object.fromEntries(
        hosts
            .filter((host) => tokens[host] !== undefined)
            .map((host) => [`${tokens[host]!.includes(" ") ? "GIT_AUTH_HEADER" : "GIT_AUTH_TOKEN"}.${host}`, tokens[host]!]),
    );
}

/** Hosts that may be told a token: over plain http it would be everybody's on the way, so there only this machine is one. */
function gitHost(location: string): string[] {
    if (!URL.canParse(location)) {
        return [];
    }
    const { protocol, host } = new URL(location);
    return protocol === "https:" || (protocol === "http:" && isLoopbackRegistry(host)) ? [host] : [];
}
