import * as path from "node:path";
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import { afterEach } from "vitest";
import type { BuilderConnection } from "../../components/builder/connection";
import { repositoryRoot } from "./stackFile";

/** What the stand-in says of itself. */
export interface StandInDaemon {
    /** Builds that it says are running: BuildKit's records. */
    active?: object[];
    version: string | null;
    /** `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`, in the daemon's order. */
    platforms: string[];
    /** PEM texts for mutual TLS, as buildkitd takes them; without encryption where absent. */
    tls?: { ca: Buffer; cert: Buffer; key: Buffer };
}

/**
 * A daemon that answers BuildKit's ListWorkers and ListenBuildHistory and nothing else. It is read from
 * the same control.proto as the probe's client, so it cannot show that the field numbers are
 * BuildKit's own: the live tests do.
 */
export function standInBuildkits(): (daemon: StandInDaemon) => Promise<string> {
    const servers: grpc.Server[] = [];
    afterEach(() => {
        for (const server of servers.splice(0)) {
            server.forceShutdown();
        }
    });
    return async ({ version, platforms, active = [], tls }) => {
        const file = path.join(repositoryRoot, "components", "builder", "control.proto");
        const loaded = grpc.loadPackageDefinition(protoLoader.loadSync(file, { keepCase: true })) as unknown as {
            moby: { buildkit: { v1: { Control: grpc.ServiceClientConstructor } } };
        };
        const server = new grpc.Server();
        servers.push(server);
        server.addService(loaded.moby.buildkit.v1.Control.service, {
            ListenBuildHistory: (call: grpc.ServerWritableStream<unknown, object>) => {
                active.forEach((record) => call.write({ record }));
                call.end();
            },
            ListWorkers: (_call: unknown, callback: (error: null, answer: object) => void) =>
                callback(null, {
                    record: [
                        {
                            ID: "worker",
                            platforms: platforms.map((platform) => {
                                const [OS, Architecture, Variant = ""] = platform.split("/");
                                return { OS, Architecture, Variant };
                            }),
                            BuildkitVersion: version === null ? null : { version },
                        },
                    ],
                }),
        });
        const credentials =
            tls === undefined
                ? grpc.ServerCredentials.createInsecure()
                : grpc.ServerCredentials.createSsl(tls.ca, [{ private_key: tls.key, cert_chain: tls.cert }], true);
        const port = await new Promise<number>((resolve, reject) =>
            server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
        );
        return `tcp://127.0.0.1:${port}`;
    };
}

/** A connection with production's defaults and no encryption. */
export function connection(overrides: Partial<BuilderConnection> = {}): BuilderConnection {
    return {
        name: "gh200",
        endpoint: "tcp://10.0.0.1:1234",
        platform: "linux/arm64",
        serverName: "",
        caCertificate: "",
        clientCertificate: "",
        clientKey: "",
        minBuildkitVersion: "0.31.0",
        allowEmulation: false,
        refuseWhenBusy: false,
        ...overrides,
    };
}
