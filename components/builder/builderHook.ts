import * as pulumi from "@pulumi/pulumi";
import { refuse } from "../internal/errors";
import { writeBuilder } from "./buildxStore";
import { type BuilderConnection, builderProblems, oldestBuildkit, probeBuilder, unreachableProblem } from "./probe";

/** The builder that an image is built on. A RemoteBuilder has these properties and can be passed as it is. */
export interface BuilderArgs {
    /** Name of the builder in the buildx store. */
    name: pulumi.Input<string>;
    /** Address of the BuildKit daemon, `tcp://HOST:PORT`. */
    endpoint: pulumi.Input<string>;
    /** Platform that it builds for, as BuildKit writes it. */
    platform: pulumi.Input<string>;
    /** Host name that the daemon's certificate must carry. Default: the endpoint's. */
    serverName?: pulumi.Input<string>;
    /** PEM text of the CA that signed the daemon's certificate. Default: none, and the connection is not encrypted. */
    caCertificate?: pulumi.Input<string>;
    /** PEM text of the client's certificate. Default: none. */
    clientCertificate?: pulumi.Input<string>;
    /** PEM text of the client's key; secret. Default: none. */
    clientKey?: pulumi.Input<string>;
    /** Oldest BuildKit that may build. Default: `0.31.0`, a RemoteBuilder's. */
    minBuildkitVersion?: pulumi.Input<string>;
    /** Whether a daemon that only emulates the platform is accepted. Default: false. */
    allowEmulation?: pulumi.Input<boolean>;
}

/**
 * A hook that makes the builder usable just before an image is built: it writes the builder into this
 * machine's buildx store and refuses a dead, foreign, old, emulating or untrusted daemon in one line.
 * It does not run in a preview, nor for an image that does not change.
 *
 * @param owner makes the hook's name unique; the engine refuses two hooks of one name.
 * @param announcement is said when the builder is ready and the build starts.
 */
export function builderHook(owner: string, builder: BuilderArgs, announcement?: string): pulumi.ResourceHook {
    const connection = resolvedConnection(builder);
    return new pulumi.ResourceHook(`${owner}:builder`, async () => {
        const resolved = await connection;
        if (resolved.endpoint === "") {
            refuse([{ path: "builder.endpoint", wrong: "is missing", accepted: "tcp://HOST:PORT of a BuildKit daemon" }]);
        }
        writeBuilder(resolved);
        const facts = await probeBuilder(resolved).catch((error: unknown) => {
            refuse([unreachableProblem(resolved, error)]);
            throw error;
        });
        refuse(builderProblems(resolved, facts));
        if (announcement !== undefined) {
            await pulumi.log.info(announcement);
        }
    });
}

/** The connection in resolved values. In a preview it may never settle; only hooks of an update wait for it. */
export function resolvedConnection(builder: BuilderArgs): Promise<BuilderConnection> {
    const connection = pulumi.output({
        name: builder.name,
        endpoint: builder.endpoint,
        platform: builder.platform,
        serverName: builder.serverName,
        caCertificate: builder.caCertificate,
        clientCertificate: builder.clientCertificate,
        clientKey: builder.clientKey,
        minBuildkitVersion: builder.minBuildkitVersion,
        allowEmulation: builder.allowEmulation,
    });
    return new Promise((done) =>
        connection.apply((given) =>
            done({
                ...given,
                serverName: given.serverName ?? "",
                caCertificate: given.caCertificate ?? "",
                clientCertificate: given.clientCertificate ?? "",
                clientKey: given.clientKey ?? "",
                minBuildkitVersion: given.minBuildkitVersion ?? oldestBuildkit,
                allowEmulation: given.allowEmulation ?? false,
            }),
        ),
    );
}
