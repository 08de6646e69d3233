import * as pulumi from "@pulumi/pulumi";

/** The first with per-step memory limits (`exec.meta.linux.resources`). */
export const oldestBuildkit = "0.31.0";

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
    /** Refuse a build while the daemon is building for somebody else. Default: false, and the build waits for the daemon's lock. */
    refuseWhenBusy?: pulumi.Input<boolean>;
}

/** A daemon by what it is asked and must be, in resolved values. */
export interface BuilderDaemon {
    endpoint: string;
    platform: string;
    serverName: string;
    caCertificate: string;
    clientCertificate: string;
    clientKey: string;
    minBuildkitVersion: string;
    allowEmulation: boolean;
    refuseWhenBusy: boolean;
}

/** A daemon, and its name in the buildx store. */
export interface BuilderConnection extends BuilderDaemon {
    name: string;
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
        refuseWhenBusy: builder.refuseWhenBusy,
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
                refuseWhenBusy: given.refuseWhenBusy ?? false,
            }),
        ),
    );
}
