import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import type { BuilderConnection } from "./connection";

/**
 * buildx's store on this machine: `$BUILDX_CONFIG`, else `buildx` under Docker's configuration folder
 * (docker/buildx v0.38.2, util/confutil/config.go).
 */
export function buildxStore(env: NodeJS.ProcessEnv = process.env): string {
    return env.BUILDX_CONFIG ?? path.join(env.DOCKER_CONFIG ?? path.join(os.homedir(), ".docker"), "buildx");
}

/** A stack's own entry in the store: project and stack as buildx takes names; where that changes them, with the beginning of their hash. */
export function instanceName(project: string, stack: string): string {
    const text = `${project}-${stack}`;
    const name = text
        .toLowerCase()
        .replace(/[^a-z0-9-]/g, "-")
        .replace(/^[^a-z]/, "s$&");
    return name === text ? name : `${name}-${createHash("sha256").update(text).digest("hex").slice(0, 6)}`;
}

/** The options of buildx's remote driver for this connection; certificate files must lie at absolute paths. */
export function driverOptions(connection: BuilderConnection, store: string = buildxStore()): Record<string, string> {
    const folder = path.resolve(store, "certificates", connection.name);
    return {
        ...(connection.serverName && { servername: connection.serverName }),
        ...(connection.caCertificate && {
            cacert: path.join(folder, "cacert.pem"),
            cert: path.join(folder, "cert.pem"),
            key: path.join(folder, "key.pem"),
        }),
    };
}

/** Writes the files that `driverOptions` names, readable by this user alone. */
export function writeCertificates(connection: BuilderConnection, store: string = buildxStore()): void {
    const { cacert, cert, key } = driverOptions(connection, store);
    for (const [file, text] of [
        [cacert, connection.caCertificate],
        [cert, connection.clientCertificate],
        [key, connection.clientKey],
    ] as const) {
        if (file !== undefined) {
            fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
            writeAtomically(file, text, 0o600);
        }
    }
}

/**
 * Makes the builder known to buildx on this machine, which is where the docker-build provider looks
 * it up. Written at every build, since state is shared between machines and this store is not.
 */
export function writeBuilder(connection: BuilderConnection, store: string = buildxStore()): void {
    writeCertificates(connection, store);
    const instance = {
        Name: connection.name,
        Driver: "remote",
        Nodes: [
            {
                Name: `${connection.name}0`,
                Endpoint: connection.endpoint,
                Platforms: null,
                DriverOpts: driverOptions(connection, store),
                Flags: null,
                Files: null,
            },
        ],
        Dynamic: false,
    };
    fs.mkdirSync(path.join(store, "instances"), { recursive: true });
    writeAtomically(path.join(store, "instances", connection.name), JSON.stringify(instance), 0o600);
}

/** `buildx create` refuses a name that its store knows, as it does once an image was built without the resource. */
export function forgetBuilder(name: string, store: string = buildxStore()): void {
    fs.rmSync(path.join(store, "instances", name), { force: true });
}

function writeAtomically(file: string, text: string, mode: number): void {
    const staging = `${file}.${process.pid}`;
    fs.writeFileSync(staging, text, { mode });
    fs.renameSync(staging, file);
}
